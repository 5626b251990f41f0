"""The merging backbone."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.merging import TokenClusters, keep_rate_plan

from .micro import MICRO, micro

AVERAGE = dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5)
CONSTANT = dict(type='constant_plan', t=3)
TOME = dict(type='BipartiteMerging', keep_rate=0.7)
CENTERED = [
    dict(type=name, keep_rate=0.5) for name in ('DPCKNNMerging', 'KMedoidsMerging', 'TopKMerging')
]


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(merging=dict(keep_rate=0)), r'keep_rate must be in \(0, 1\], got 0'),
        (dict(merging=dict(keep_rate=1.5)), r'keep_rate must be in \(0, 1\], got 1.5'),
        (dict(merging=dict(keep_rate=float('nan'))), r'keep_rate must be in \(0, 1\], got nan'),
        (dict(merging=dict(keep_rate=(0.5, 0.5))), r'keep_rate must be one float or one per merge'),
        (dict(merging=dict(linkage='ward')), 'linkage must be one of'),
        (dict(merging=AVERAGE, merge_blocks=(3, 12)), r'merge_blocks must be .* 0..11, got 12'),
        (dict(merging=AVERAGE, merge_blocks=(-1,)), 'merge_blocks must be'),
        (dict(merging=AVERAGE, merge_blocks=(3, 3)), 'merge_blocks must be increasing'),
        (dict(merging=AVERAGE, merge_blocks=()), 'merge_blocks must not be empty'),
        (dict(merging=AVERAGE, window_attn=True), 'window_attn must be False from the first merge'),
        (
            dict(merging=AVERAGE, plan=CONSTANT),
            'keep_rate=0.5 in merging says nothing beside a plan',
        ),
        (dict(plan=CONSTANT), 'plan=.* says how much is merged, but merging is None'),
        (dict(merging={}, plan=dict(type='constant')), "plan's type must be one of"),
        (dict(merging={}, plan=dict(type='constant_plan')), "no token plan: .* argument: 't'"),
        (dict(merging={}, plan=dict(type='linear_plan', t=-1)), 't must be'),
        (dict(merging={}, plan=0.5), 'plan must be a token plan'),
        (dict(merging={}, plan=lambda *_: ()), 'plan must be a token plan'),
        (dict(merging={}, plan=dict(type=['constant_plan'])), "plan's type must be one of"),
        (
            dict(merging={}, plan=dict(type='keep_rate_plan', keep_rate=0.5, blocks=(3, 12))),
            r'blocks must be in 0..11',
        ),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ATCViTAdapter(**{**MICRO, **kwargs})


def test_unknown_merger_names_the_registry():
    with pytest.raises(ValueError, match=r'NoSuchMerging is not in the .*token merger registry'):
        ATCViTAdapter(merging=dict(type='NoSuchMerging'), **MICRO)


@pytest.mark.parametrize(
    ('keep_rate', 'expected'),
    [(0.5, [12, 6, 3]), (0.9, [21, 18, 16]), ((0.9, 0.5, 0.25), [21, 10, 2]), (0.01, [1, 1, 1])],
)
@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
def test_token_counts_and_back_projection(keep_rate, expected, linkage):
    model = micro(dict(type='AgglomerativeMerging', linkage=linkage, keep_rate=keep_rate)).eval()
    with torch.no_grad():
        features, stages = model.forward_with_clusters(torch.randn(2, 3, 64, 96))
    assert [stage.num_clusters for stage in stages] == expected
    assert [tuple(f.shape[-2:]) for f in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for coarse, fine in zip(stages[1:], stages):
        for image in range(2):
            pairs = set(zip(fine.labels[image].tolist(), coarse.labels[image].tolist()))
            assert len(pairs) == fine.num_clusters  # a later merge never splits a cluster


def test_merging_everything_away_still_trains():
    model = micro(dict(type='AgglomerativeMerging', keep_rate=0.01)).train()
    sum(f.square().mean() for f in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('merging', [None, dict(keep_rate=1.0)])
def test_keeping_every_token_is_the_dense_model(merging):
    image = torch.randn(1, 3, 64, 96)
    dense, merged = micro().eval(), micro(merging, merge_blocks=(3, 6, 9)).eval()
    merged.load_state_dict(dense.state_dict())
    with torch.no_grad():
        for a, b in zip(dense(image), merged(image)):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('merging', [AVERAGE, TOME, *CENTERED])
def test_images_of_a_batch_do_not_depend_on_each_other(merging):
    model = micro(merging).eval()
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        together = model(images)
        for i in range(3):
            for whole, alone in zip(together, model(images[i : i + 1])):
                torch.testing.assert_close(whole[i], alone[0], rtol=1e-4, atol=1e-5)


def test_proportional_attention_can_be_switched_off():
    image = torch.randn(1, 3, 64, 96)
    on, off = micro(AVERAGE).eval(), micro(AVERAGE, proportional_attn=False).eval()
    off.load_state_dict(on.state_dict())
    with torch.no_grad():
        a, b = on.forward_with_clusters(image), off.forward_with_clusters(image)
    # The first merge comes before any size differs from one.
    assert torch.equal(a[1][0].labels, b[1][0].labels)
    assert not torch.allclose(a[0][2], b[0][2], atol=1e-4)


@pytest.mark.parametrize('merging', [None, AVERAGE, TOME, *CENTERED])
def test_activation_checkpointing_gives_equal_gradients(merging):
    image = torch.randn(2, 3, 64, 64)
    grads = []
    for with_cp in (False, True):
        model = micro(merging, with_cp=with_cp, drop_path_rate=0.2).train()
        torch.manual_seed(1)
        sum(f.square().mean() for f in model(image)).backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=lambda m, name=name: f'{name}: {m}')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('merging', [None, AVERAGE, TOME])
def test_autocast(dtype, merging):
    model = micro(merging, merge_blocks=(3, 6, 9)).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        full = model(image)
        with torch.autocast('cpu', dtype=dtype):
            half, stages = model.forward_with_clusters(image)
    for stage in stages:
        assert stage.sizes.dtype == torch.float32
    for a, b in zip(full, half):
        assert b.isfinite().all()
        # Clusters may differ where keys are rounded, so features only agree on the whole.
        assert (a - b.float()).norm() / a.norm() < 0.25


@pytest.mark.parametrize('merging', [None, AVERAGE, TOME, *CENTERED])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_a_backbone_in_half_precision(dtype, merging):
    model = micro(merging).eval().to(dtype)
    with torch.no_grad():
        features = model(torch.randn(1, 3, 64, 96, dtype=dtype))
    for feature in features:
        assert feature.dtype == dtype
        assert feature.isfinite().all()


@pytest.mark.parametrize('merging', CENTERED)
def test_autocast_with_centres(merging):
    # Which tokens are centres hangs on the last digits, so features need not agree with float32.
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        features, stages = micro(merging).eval().forward_with_clusters(torch.randn(1, 3, 64, 96))
    assert all(feature.isfinite().all() for feature in features)
    assert [stage.sizes.dtype for stage in stages] == [torch.float32] * 3
    assert [len(stage.labels.unique()) for stage in stages] == [12, 6, 3]


def test_pruning_leaves_the_sizes_at_one():
    model = micro(dict(type='TopKMerging', keep_rate=0.5)).eval()
    with torch.no_grad():
        _, stages = model.forward_with_clusters(torch.randn(2, 3, 64, 96))
    for stage in stages:
        assert torch.equal(stage.sizes, torch.ones(2, stage.num_clusters))
        assert torch.equal(stage.weights.sum(1), torch.full((2,), float(stage.num_clusters)))


@pytest.mark.filterwarnings('ignore:padding_aware is an argument:FutureWarning')
def test_merging_can_be_changed_and_switched_off():
    image = torch.randn(1, 3, 64, 96)
    model, tome = micro(AVERAGE).eval(), micro(TOME).eval()
    dense = micro().eval()
    with torch.no_grad():
        model.set_merging(TOME)
        assert torch.equal(model(image)[2], tome(image)[2])
        for wrong in (dict(keep_rate=7), dict(linkage='ward', padding_aware=True)):
            with pytest.raises(ValueError, match=r'must be'):
                model.set_merging(wrong)
        assert not model.padding_aware
        assert torch.equal(model(image)[2], tome(image)[2])  # as before
        model.set_merging(None)
        assert model.forward_with_clusters(image)[1] == ()
        assert torch.equal(model(image)[2], dense(image)[2])


@pytest.mark.parametrize('options', [dict(), dict(merging={}, plan=CONSTANT)])
def test_blocks_that_are_not_asked_for_need_not_be_there(options):
    model = ATCViTAdapter(
        **{**MICRO, 'depth': 8, 'interaction_indexes': [[0, 1], [2, 3], [4, 5], [6, 7]]}, **options
    )
    with pytest.raises(ValueError, match=r'merge_blocks must be block indices in 0\.\.7, got 9'):
        model.set_merging(AVERAGE)


@pytest.mark.parametrize(
    ('plan', 'expected'),
    [
        (dict(type='constant_plan', t=2), [22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 1]),
        (dict(type='linear_plan', t=1), [22, 21, 20, 19, 18, 17]),
        (dict(type='keep_rate_plan', keep_rate=0.7, of='initial'), [16, 11, 8]),
        (keep_rate_plan((0.5, 0.25), blocks=(0, 5)), [12, 3]),
    ],
)
def test_a_plan_says_how_many_clusters_each_block_leaves(plan, expected):
    model = micro(dict(linkage='complete'), plan=plan).eval()
    with torch.no_grad():
        _, stages = model.forward_with_clusters(torch.randn(2, 3, 64, 96))
    assert [stage.num_clusters for stage in stages] == expected


def test_a_keep_rate_and_the_plan_of_it_are_the_same():
    image = torch.randn(2, 3, 64, 96)
    plan = keep_rate_plan(0.7, blocks=(2, 8))
    planned = micro(dict(linkage='average'), plan=plan).eval()
    by_rate = micro(dict(linkage='average', keep_rate=0.7), merge_blocks=(2, 8)).eval()
    assert planned.merge_blocks == by_rate.merge_blocks == (2, 8)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(planned(image), by_rate(image)))
        planned.set_merging(dict(keep_rate=0.5))
        assert planned.merge_blocks == (3, 6, 9)


def test_training_in_bfloat16_reaches_every_parameter():
    model = micro(AVERAGE).train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = sum(f.square().mean() for f in model(torch.randn(2, 3, 64, 64)))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_clusters_are_outside_the_graph():
    model = micro(AVERAGE).train()
    _, stages = model.forward_with_clusters(torch.randn(1, 3, 64, 64))
    for stage in stages:
        assert isinstance(stage, TokenClusters)
        assert not stage.labels.requires_grad
        assert not stage.sizes.requires_grad


@pytest.mark.parametrize('keep_rate', [0.5])
def test_full_size_input(keep_rate):
    """800x1333 padded to 800x1344: 4,200 tokens, a batch of two different images."""
    model = micro(dict(linkage='average', keep_rate=keep_rate)).eval()
    with torch.no_grad():
        _, stages = model.forward_with_clusters(torch.randn(2, 3, 800, 1344))
    assert [stage.num_clusters for stage in stages] == [2100, 1050, 525]
