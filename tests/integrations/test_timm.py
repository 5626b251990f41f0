"""Merging in timm's models: against a plain forward, in every mode, undone to the bit."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import nn

from mmdet_atc.integrations.timm import apply_merging, remove_merging
from mmdet_atc.merging import (
    AgglomerativeMerging,
    TokenClusters,
    build_merger,
    constant_plan,
    keep_rate_plan,
)
from mmdet_atc.merging.plan import tokens_left

from .recipe import hooks_of

MICRO = dict(img_size=64, patch_size=16, embed_dim=32, depth=4, num_heads=2, num_classes=7)
PLAN = keep_rate_plan(0.5, blocks=(1, 2))
AVERAGE = dict(type='AgglomerativeMerging', linkage='average')

MODELS = {
    'class token': {},
    'average pooling': dict(global_pool='avg'),
    'average pooling, no class token': dict(global_pool='avg', class_token=False),
    'registers': dict(reg_tokens=3, no_embed_class=True),
    'layer scale': dict(init_values=0.3),
    'query and key norm': dict(qk_norm=True),
    'attention pooling': dict(global_pool='map', class_token=False),
}
MERGERS = [
    AVERAGE,
    dict(type='AgglomerativeMerging', linkage='single'),
    dict(linkage='complete'),
    dict(type='BipartiteMerging', class_token=True),
    dict(type='DPCKNNMerging'),
    dict(type='KMedoidsMerging'),
    dict(type='TopKMerging'),
]


def micro(**changes) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(**{**MICRO, **changes}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def pictures(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def plain_forward(model: VisionTransformer, x, linkage: str, counts: dict[int, int]):
    """The paper's equations on timm's parameters, with weights of patches instead of sizes."""
    x = model.norm_pre(model._pos_embed(model.patch_embed(x)))
    num_prefix, clusters = model.num_prefix_tokens, None
    for index, block in enumerate(model.blocks):
        attn, y = block.attn, block.norm1(x)
        shape = (*y.shape[:2], 3, attn.num_heads, -1)
        q, k, v = attn.qkv(y).reshape(shape).permute(2, 0, 3, 1, 4)
        q, k = attn.q_norm(q), attn.k_norm(k)
        logits = q @ k.transpose(-2, -1) * attn.scale
        if clusters is not None:
            sizes = torch.cat([torch.ones(len(x), num_prefix), clusters.sizes], dim=1)
            weights = logits.exp() * sizes[:, None, None]
            attention = weights / weights.sum(-1, keepdim=True)
        else:
            attention = logits.softmax(-1)
        x = x + block.ls1(attn.proj((attention @ v).transpose(1, 2).reshape(y.shape)))
        if index in counts:
            patches = x[:, num_prefix:]
            if clusters is None:
                clusters = TokenClusters.identity(len(x), patches.shape[1], x.device)
            labels = AgglomerativeMerging(linkage=linkage).assign(
                k[:, :, num_prefix:].mean(1), counts[index]
            )
            merged, clusters = clusters.merge_tokens(patches, labels, counts[index])
            x = torch.cat([x[:, :num_prefix], merged], dim=1)
        x = x + block.ls2(block.mlp(block.norm2(x)))
    full = torch.cat([x[:, :num_prefix], clusters.unmerge(x[:, num_prefix:])], dim=1)
    return model.forward_head(model.norm(full))


@pytest.mark.parametrize('fused', [True, False], ids=['fused', 'plain'])
@pytest.mark.parametrize('kind', MODELS)
def test_equals_the_equations(kind, fused):
    model, x = micro(**MODELS[kind]), pictures()
    for block in model.blocks:
        block.attn.fused_attn = fused
    expected = plain_forward(model, x, 'average', {1: 8, 2: 4})
    with torch.no_grad():
        out = apply_merging(model, AVERAGE, PLAN)(x)
    torch.testing.assert_close(out, expected)
    assert [stage.num_clusters for stage in model.token_clusters] == [8, 4]


def test_average_pooling_is_weighted_by_size():
    model, x = micro(global_pool='avg'), pictures()
    apply_merging(model, AVERAGE, PLAN)
    merged = []
    model.blocks[-1].register_forward_hook(lambda block, args, out: merged.append(out))
    with torch.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        sizes = model.token_clusters[-1].sizes
        mean = (merged[0][:, 1:] * sizes.unsqueeze(-1)).sum(1) / 16
        torch.testing.assert_close(features, model.fc_norm(mean))


@pytest.mark.parametrize('merging', MERGERS, ids=lambda m: m.get('linkage', m.get('type')))
@pytest.mark.parametrize('kind', MODELS)
def test_every_merger_in_every_model(kind, merging):
    model, x = micro(**MODELS[kind]), pictures()
    with torch.no_grad():
        dense = model(x)
        out = apply_merging(model, merging, PLAN)(x)
    assert [stage.num_clusters for stage in model.token_clusters] == [8, 4]
    for stage in model.token_clusters:
        assert stage.labels.shape == (2, 16)
        assert all(len(row.unique()) == stage.num_clusters for row in stage.labels)
    assert out.isfinite().all()
    assert not torch.allclose(out, dense)


def test_top_k_keeps_what_the_class_token_attends_to():
    model, x = micro(), pictures()
    keys, queries = [], []
    model.blocks[1].attn.k_norm.register_forward_hook(lambda m, a, out: keys.append(out))
    model.blocks[1].attn.q_norm.register_forward_hook(lambda m, a, out: queries.append(out))
    apply_merging(model, dict(type='TopKMerging'), keep_rate_plan(0.5, (1,)))
    with torch.no_grad():
        model(x)
    attention = (queries[0][:, :, :1] @ keys[0].transpose(-2, -1) * 16**-0.5).softmax(-1)
    best = attention.mean(1)[:, 0, 1:].topk(8).indices
    kept = model.token_clusters[0].weights.nonzero()[:, 1].reshape(2, 8)
    assert [set(row.tolist()) for row in best] == [set(row.tolist()) for row in kept]


def test_evit_fuses_the_rest_by_attention():
    model, x = micro(), pictures()
    keys, queries, seen = [], [], []
    attn = model.blocks[1].attn
    attn.k_norm.register_forward_hook(lambda m, a, out: keys.append(out))
    attn.q_norm.register_forward_hook(lambda m, a, out: queries.append(out))
    model.blocks[1].norm2.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    apply_merging(model, dict(type='EViTMerging'), keep_rate_plan(0.5, (1, 2), of='initial'))
    model.blocks[1].norm2.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    with torch.no_grad():
        model(x)
    attention = (queries[0][:, :, :1] @ keys[0].transpose(-2, -1) * 16**-0.5).softmax(-1)
    order = attention.mean(1)[:, 0, 1:].argsort(dim=1, descending=True)
    before, after = seen[0][:, 1:], seen[1][:, 1:]
    for image in range(2):
        kept, rest = order[image, :8], order[image, 8:]
        torch.testing.assert_close(after[image, :8], before[image, kept])
        weights = attention.mean(1)[image, 0, 1:][rest]
        torch.testing.assert_close(after[image, 8], weights @ before[image, rest])
    assert [stage.num_clusters for stage in model.token_clusters] == [9, 5]
    torch.testing.assert_close(model.token_clusters[1].sizes, torch.ones(2, 5))


@pytest.mark.parametrize('merging', [*MERGERS, dict(type='EViTMerging')])
@pytest.mark.parametrize(
    'plan', [PLAN, keep_rate_plan(0.5, (1, 2), of='initial'), constant_plan(1)]
)
def test_blocks_hand_on_as_many_tokens_as_the_plan_tells(merging, plan):
    model, seen = micro(), []
    for block in model.blocks:
        block.register_forward_hook(lambda m, args, out: seen.append(out.shape[1]))
    with torch.no_grad():
        apply_merging(model, merging, plan)(pictures())
    left = tokens_left(plan, len(model.blocks), 16, build_merger(merging))
    assert seen == [count + 1 for count in left]
    assert tokens_left(None, 2, 16, None) == [16, 16]


@pytest.mark.parametrize('kind', MODELS)
def test_undone_to_the_bit(kind):
    model, x = micro(**MODELS[kind]), pictures()
    weights = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        dense, hooks = model(x), hooks_of(model)
        apply_merging(model, AVERAGE, PLAN)(x)
        assert list(model.state_dict()) == list(weights)
        assert remove_merging(model) is model
        assert torch.equal(model(x), dense)
    assert hooks_of(model) == hooks
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert remove_merging(model) is model


def test_merging_again_replaces():
    model, x = micro(), pictures()
    with torch.no_grad():
        once = apply_merging(micro(), AVERAGE, constant_plan(2))(x)
        apply_merging(model, dict(type='TopKMerging'), PLAN)(x)
        again = apply_merging(model, AVERAGE, constant_plan(2))(x)
    assert torch.equal(once, again)
    assert len(model.token_clusters) == 4


def test_nothing_to_merge_is_the_dense_model_to_the_bit():
    model, x = micro(), pictures()
    with torch.no_grad():
        dense = model(x)
        assert torch.equal(apply_merging(model, AVERAGE, keep_rate_plan(1.0, (1, 2)))(x), dense)
        assert [stage.num_clusters for stage in model.token_clusters] == [16, 16]
        assert torch.equal(apply_merging(model, AVERAGE, constant_plan(0))(x), dense)
        assert model.token_clusters == ()


def test_without_proportional_attention_merges_are_means_of_the_current_tokens():
    model, x = micro(), pictures()
    initial = keep_rate_plan(0.5, blocks=(1, 2), of='initial')
    seen = []
    model.blocks[2].norm2.register_forward_pre_hook(lambda m, args: seen.append(args[0][:, 1:]))
    apply_merging(model, AVERAGE, initial, proportional_attn=False)
    model.blocks[2].norm2.register_forward_pre_hook(lambda m, args: seen.append(args[0][:, 1:]))
    with torch.no_grad():
        model(x)
    before, after = seen
    first, second = model.token_clusters
    labels = torch.zeros(2, 8, dtype=torch.int64).scatter(1, first.labels, second.labels)
    for image in range(2):
        for cluster in range(4):
            mean = before[image, labels[image] == cluster].mean(0)
            torch.testing.assert_close(after[image, cluster], mean)
    assert (first.sizes > 1).any()


def test_images_of_another_size():
    model = micro(dynamic_img_size=True)
    apply_merging(model, AVERAGE, PLAN)
    with torch.no_grad():
        model(torch.rand(1, 3, 96, 64))
    assert [stage.num_clusters for stage in model.token_clusters] == [12, 6]


@pytest.mark.parametrize('kind', MODELS)
def test_intermediate_features_are_of_all_patches(kind):
    model, x = micro(**MODELS[kind]), pictures()
    dense = micro(**MODELS[kind])
    apply_merging(model, AVERAGE, PLAN)
    outputs = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, args, out: outputs.append(out))
    with torch.no_grad():
        expected = model.forward_features(x)
        stages, merged = model.token_clusters, list(outputs)
        for norm in (False, True, False):
            final, maps = model.forward_intermediates(x, norm=norm)
            assert torch.equal(final, expected)
            assert [tuple(level.shape) for level in maps] == [(2, 32, 4, 4)] * 4
            for level, tokens, clusters in zip(
                maps, merged, (None, *stages, stages[-1]), strict=True
            ):
                tokens = model.norm.forward(tokens) if norm else tokens
                patches = tokens[:, model.num_prefix_tokens :]
                if clusters is not None:
                    patches = clusters.unmerge(patches)
                assert torch.equal(level, patches.transpose(1, 2).reshape(2, 32, 4, 4))
        first = model.forward_intermediates(x, indices=[0], stop_early=True)
        assert model.token_clusters == ()
        for ours, theirs in zip(first, dense.forward_intermediates(x, [0], stop_early=True)):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_threads_get_what_each_gets_alone():
    model = apply_merging(micro(), AVERAGE, PLAN)
    images = torch.rand(4, 2, 3, 64, 64)
    with torch.no_grad():
        expected = [model(image) for image in images]

    def calls(index):
        with torch.no_grad():
            return all(torch.equal(model(images[index]), expected[index]) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(calls, range(4)))


def test_a_norm_put_there_later_gives_all_patches():
    model = apply_merging(micro(), AVERAGE, PLAN)
    model.norm = nn.Identity()
    assert model.forward_features(pictures()).shape[1] == 1 + 16


def test_pruned_models_give_all_patches():
    model, x = micro(), pictures()
    apply_merging(model, AVERAGE, PLAN)
    with torch.no_grad():
        expected = model.forward_intermediates(x, [2], output_fmt='NLC')[1][0]
        assert model.prune_intermediate_layers([2], prune_norm=True) == [2]
        assert torch.equal(model.forward_features(x)[:, 1:], expected)
        hooks = hooks_of(remove_merging(model))
    assert all(before == after == 0 for before, after, _ in hooks)


def test_gradients_of_intermediate_features_are_those_of_all_features():
    model, x, gradients = micro(), pictures(), []
    apply_merging(model, AVERAGE, PLAN)
    for features in (
        lambda: model.forward_features(x)[:, 1:],
        lambda: model.forward_intermediates(
            x, indices=[3], norm=True, output_fmt='NLC', intermediates_only=True
        )[0],
    ):
        model.zero_grad()
        features().square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_masks_are_refused():
    for proportional_attn in (True, False):
        model = apply_merging(micro(), AVERAGE, PLAN, proportional_attn)
        for mask in (dict(attn_mask=torch.zeros(2, 1, 17, 17)), dict(is_causal=True)):
            with pytest.raises(ValueError, match='attn_mask and is_causal do not go with merged'):
                model.blocks[1](torch.rand(2, 17, 32), **mask)


def test_a_pass_that_failed_leaves_nothing_behind():
    model, x = micro(dynamic_img_size=True), pictures()

    def fail(mlp, args):
        raise RuntimeError('out of memory')

    with torch.no_grad():
        one_patch = x[..., :16, :16]
        dense = model(one_patch)
        apply_merging(model, AVERAGE, PLAN)
        failing = model.blocks[1].mlp.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match='out of memory'):
            model(x)
        failing.remove()
        assert torch.equal(model(one_patch), dense)


def test_training_with_stochastic_depth_and_recomputed_activations():
    model = micro(drop_path_rate=0.4, attn_drop_rate=0.2, proj_drop_rate=0.1).train()
    x = pictures(8)
    apply_merging(model, AVERAGE, PLAN)
    gradients = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        torch.manual_seed(3)
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for once, recomputed in zip(*gradients, strict=True):
        assert once.isfinite().all()
        torch.testing.assert_close(once, recomputed)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


def test_autocast():
    model, x = micro(), pictures()
    apply_merging(model, AVERAGE, PLAN)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        out = model(x)
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_compiles_into_one_graph():
    model, x = micro(), pictures()
    apply_merging(model, AVERAGE, PLAN)
    with torch.no_grad():
        eager = model(x)
        compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
        torch.testing.assert_close(compiled(x), eager)
    assert [stage.num_clusters for stage in model.token_clusters] == [8, 4]


def in_blocks(model: VisionTransformer) -> VisionTransformer:
    for block in model.blocks:
        block.compile(backend='eager')
    return model


@pytest.mark.parametrize('proportional_attn', [True, False])
@pytest.mark.parametrize(
    'compiled',
    [lambda model: torch.compile(model, backend='eager'), in_blocks],
    ids=['all', 'blocks'],
)
def test_what_was_compiled_of_one_model_is_not_run_for_another(compiled, proportional_attn):
    torch._dynamo.reset()
    x, more = pictures(), keep_rate_plan(0.25, blocks=(1, 2))

    def merging(plan):
        return apply_merging(micro(), AVERAGE, plan, proportional_attn)

    with torch.no_grad():
        for make in (micro, lambda: merging(PLAN), lambda: merging(more), micro):
            torch.testing.assert_close(compiled(make())(x), make()(x))


def test_a_forward_of_others_is_kept():
    model, x = micro(), pictures()
    calls = []

    def counted(module):
        forward = module.forward
        module.forward = lambda *args, **kwargs: calls.append(module) or forward(*args, **kwargs)

    counted(model.blocks[2].attn)
    apply_merging(model, AVERAGE, PLAN)
    counted(model.blocks[2])
    with torch.no_grad():
        model(x)
        assert calls == [model.blocks[2], model.blocks[2].attn]
        remove_merging(model)
        assert torch.equal(model(x), micro()(x))
    assert calls == [model.blocks[2], model.blocks[2].attn] * 2


def test_copies_and_files_merge_by_themselves():
    model, x = micro(), pictures()
    apply_merging(model, AVERAGE, PLAN)
    with torch.no_grad():
        out = model(x)
        copied = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        stages = model.token_clusters
        for other in (copied, loaded):
            assert torch.equal(other(x), out)
            assert model.token_clusters is stages
            remove_merging(other)
            assert not hasattr(other, 'token_clusters')
        assert torch.equal(model(x), out)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(plan=keep_rate_plan(0.5)), 'blocks must be in 0..3'),
        (dict(plan=0.5), 'plan must be'),
        (dict(merging=dict(linkage='average', keep_rate=0.5)), 'keep_rate=0.5 in merging'),
        (dict(merging=dict(type='SwinMerging')), 'is no token merger'),
        (dict(merging='average'), 'merging must be'),
        (dict(merging=dict(linkage='ward')), 'linkage must be'),
        (dict(proportional_attn='yes'), 'proportional_attn must be'),
    ],
)
def test_bad_arguments_leave_the_model_as_it_was(change, message):
    model, x = micro(), pictures()
    with torch.no_grad():
        dense = model(x)
        arguments = dict(model=model, merging=AVERAGE, plan=PLAN) | change
        hooks = hooks_of(model)
        with pytest.raises(ValueError, match=message):
            apply_merging(**arguments)
        assert hooks_of(model) == hooks
        assert torch.equal(model(x), dense)


def test_bad_models_are_refused():
    compiled_in_place = micro()
    compiled_in_place.compile(backend='eager')
    one_block = micro()
    one_block.blocks[0] = torch.compile(one_block.blocks[0], backend='eager')
    for model, message in (
        (timm.create_model('test_efficientnet'), 'must be a VisionTransformer of timm'),
        (torch.compile(micro(), backend='eager'), 'compiled already'),
        (compiled_in_place, 'compiled already'),
        (in_blocks(micro()), 'compiled already'),
        (one_block, 'compiled already'),
        (micro(block_fn=ResPostBlock), 'block 0 of the model is a ResPostBlock'),
        (nn.Identity(), 'must be a VisionTransformer of timm'),
    ):
        with pytest.raises(ValueError, match=message):
            apply_merging(model, AVERAGE, PLAN)
