"""Merging in diffusers' UNets: the authors' outputs, the equations, every mode, undone."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('diffusers', reason='pip install -r requirements/diffusers.txt')
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

from mmdet_atc.integrations.diffusers import apply_merging, remove_merging
from mmdet_atc.merging import AgglomerativeMerging, TokenClusters
from mmdet_atc.merging.bipartite import match_in_squares
from mmdet_atc.visualization import draw_latent_clusters

from ..backbones.micro import canonical
from .recipe import fill, hooks_of, read

COMPLETE = dict(type='AgglomerativeMerging', linkage='complete')
TOME = dict(type='BipartiteMerging')
MICRO = dict(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    layers_per_block=1,
    block_out_channels=(16, 32),
    norm_num_groups=8,
    cross_attention_dim=8,
    attention_head_dim=2,
    down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
)


def micro(**changes) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(**{**MICRO, **changes}).eval()
    fill(unet, 7)
    return unet


def run(unet, seed: int = 0, batch: int = 2, **conditions):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, 4, 8, 8, generator=generator)
    context = torch.randn(batch, 5, 8, generator=generator)
    with torch.no_grad():
        dtype = next(unet.parameters()).dtype
        return unet(sample.to(dtype), 500, context.to(dtype), **conditions).sample


def close(ours: torch.Tensor, theirs: np.ndarray) -> bool:
    return np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_unet_matches_the_authors_code(golden_classification):
    meta, golden = read(golden_classification / 'sd_unet_complete_r50.npz')
    unet = UNet2DConditionModel(**meta['unet']).eval()
    fill(unet, meta['weights_seed'])
    sample, context = (torch.from_numpy(golden[k]) for k in ('sample', 'encoder_hidden_states'))
    apply_merging(unet, COMPLETE, meta['keep_rate'], meta['max_downsample'])
    with torch.no_grad():
        out = unet(sample, meta['timestep'], context).sample
    assert close(out, golden['output'])
    assert len(unet.token_clusters) == 3
    for index, stage in enumerate(unet.token_clusters):
        assert torch.equal(canonical(stage.labels), canonical(golden[f'labels{index}']))


def test_block_matches_the_authors_code(golden_classification):
    meta, golden = read(golden_classification / 'sd_block_average_r50.npz')
    block = BasicTransformerBlock(
        meta['dim'],
        meta['num_heads'],
        meta['head_dim'],
        cross_attention_dim=meta['cross_attention_dim'],
    ).eval()
    fill(block, meta['weights_seed'])
    apply_merging(block, dict(linkage=meta['method']), meta['keep_rate'])
    hidden, context = (
        torch.from_numpy(golden[k]).float() for k in ('hidden_states', 'encoder_hidden_states')
    )
    with torch.no_grad():
        out = block(hidden, encoder_hidden_states=context)
    assert close(out[..., ::4], golden['output'])
    assert torch.equal(canonical(block.token_clusters[0].labels), canonical(golden['labels']))


def test_block_equals_the_equations():
    block = BasicTransformerBlock(16, 2, 8, cross_attention_dim=8).eval()
    hidden, context = torch.randn(2, 36, 16), torch.randn(2, 5, 8)
    with torch.no_grad():
        labels = AgglomerativeMerging(linkage='complete').assign(hidden, 18)
        _, clusters = TokenClusters.identity(2, 36, hidden.device).merge_tokens(hidden, labels, 18)
        attended = clusters.unmerge(block.attn1(clusters.merge(block.norm1(hidden))))
        x = hidden + attended
        x = x + block.attn2(block.norm2(x), encoder_hidden_states=context)
        expected = x + block.ff(block.norm3(x))
        out = apply_merging(block, COMPLETE, 0.5)(hidden, encoder_hidden_states=context)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(('keep_rate', 'left'), [(0.9, 58), (0.5, 32), (0.4, 26), (0.25, 16)])
@pytest.mark.parametrize('merging', [COMPLETE, TOME, dict(type='DPCKNNMerging')])
def test_how_many_tokens_stay(merging, keep_rate, left):
    unet = apply_merging(micro(), merging, keep_rate)
    run(unet)
    assert [stage.num_clusters for stage in unet.token_clusters] == [left] * 3


def test_tome_removes_three_quarters_at_most():
    unet = apply_merging(micro(), TOME, 0.1)
    run(unet)
    assert [stage.num_clusters for stage in unet.token_clusters] == [16] * 3


def test_destinations_are_upper_left():
    features = torch.randn(2, 15 * 13, 20)
    labels = match_in_squares(features, 60, (15, 13))
    grid = torch.arange(15 * 13).reshape(15, 13)
    destinations = grid[:14:2, :12:2].flatten()
    assert len(labels[0, destinations].unique()) == 42
    units = torch.nn.functional.normalize(features, dim=-1)
    for image in range(2):
        similarity = units[image] @ units[image, destinations].T
        best, partner = similarity.max(dim=1)
        best[destinations] = -2
        merged = best.topk(15 * 13 - 60).indices
        assert torch.equal(labels[image, merged], labels[image, destinations[partner[merged]]])
        assert labels[image].bincount(minlength=60).min() == 1


def test_depth_of_blocks_that_merge():
    inner = dict(
        down_block_types=('CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'),
    )
    unet = micro(**inner)
    for max_downsample, counts in ((1, [32] * 3), (2, [32, 8, 8, 8, 8, 32, 32])):
        apply_merging(unet, COMPLETE, 0.5, max_downsample)
        run(unet)
        assert [stage.num_clusters for stage in unet.token_clusters] == counts


def test_sdxl_merges_below_full_resolution():
    unet = micro(
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type='text_time',
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 + 6 * 8,
    )
    more = dict(text_embeds=torch.randn(2, 8), time_ids=torch.randn(2, 6))
    dense = run(unet, added_cond_kwargs=more)
    with pytest.warns(UserWarning, match='max_downsample'):
        same = run(apply_merging(unet, COMPLETE, 0.5), added_cond_kwargs=more)
    assert torch.equal(same, dense)
    merged = run(apply_merging(unet, COMPLETE, 0.5, max_downsample=2), added_cond_kwargs=more)
    assert [stage.num_clusters for stage in unet.token_clusters] == [8] * 8
    assert not torch.equal(merged, dense)


def test_each_guidance_half_has_its_own_clusters():
    unet = apply_merging(micro(), COMPLETE, 0.5)
    both, stages = run(unet), unet.token_clusters
    assert not torch.equal(stages[0].labels[0], stages[0].labels[1])
    alone = run(unet, batch=1)
    assert alone.shape == (1, 4, 8, 8)
    assert both.isfinite().all()


def test_threads_get_what_each_gets_alone():
    unet = apply_merging(micro(), COMPLETE, 0.5)
    samples, context = torch.randn(4, 1, 4, 8, 8), torch.randn(1, 5, 8)

    def calls(sample):
        with torch.no_grad():
            return torch.stack([unet(sample, 500, context).sample for _ in range(5)])

    expected = [calls(sample) for sample in samples]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(calls, samples), expected))


def test_a_block_alone_is_merged_and_undone():
    block = BasicTransformerBlock(8, 2, 4)
    tokens, hooks = torch.randn(1, 16, 8), hooks_of(block)
    dense = block(tokens)
    assert not torch.equal(apply_merging(block, COMPLETE, 0.5)(tokens), dense)
    assert block.token_clusters[0].num_clusters == 8
    assert torch.equal(remove_merging(block)(tokens), dense)
    assert hooks_of(block) == hooks


def test_tome_leaves_alone_what_has_no_square():
    unet = apply_merging(micro(), TOME, 0.5, max_downsample=2)
    sample, context = torch.randn(1, 4, 3, 16), torch.randn(1, 5, 8)
    with torch.no_grad():
        assert unet(sample, 500, context).sample.isfinite().all()


def test_clusters_of_a_latent_are_drawn_over_the_picture():
    unet = apply_merging(micro(), COMPLETE, 0.1)
    run(unet)
    stage = unet.token_clusters[0]
    image = torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy()
    picture = draw_latent_clusters(image, stage, index=1)
    assert picture.shape == (64, 64, 3)
    labels = stage.labels[1].reshape(8, 8).repeat_interleave(8, 0).repeat_interleave(8, 1).numpy()
    for token, label in enumerate(stage.labels[1].tolist()):
        found = picture[token // 8 * 8 + 3, token % 8 * 8 + 3]
        np.testing.assert_array_equal(found, np.rint(image[labels == label].mean(axis=0)))
    with pytest.raises(ValueError, match='64 tokens are no grid of squares'):
        draw_latent_clusters(np.zeros((64, 65, 3), np.uint8), stage)


def test_undone_to_the_bit():
    unet = micro()
    dense, hooks, weights = run(unet), hooks_of(unet), copy.deepcopy(unet.state_dict())
    pipe = SimpleNamespace(unet=unet)
    assert apply_merging(pipe, COMPLETE, 0.5) is pipe
    apply_merging(unet, TOME, 0.5)
    assert not torch.equal(run(unet), dense)
    assert remove_merging(pipe) is pipe
    assert hooks_of(unet) == hooks
    assert torch.equal(run(unet), dense)
    assert all(torch.equal(t, weights[name]) for name, t in unet.state_dict().items())


def test_keeping_all_is_the_dense_unet():
    unet = micro()
    dense = run(unet)
    torch.testing.assert_close(run(apply_merging(unet, COMPLETE, 1.0)), dense)


def test_half_precision_and_copies():
    unet = apply_merging(micro().to(torch.bfloat16), COMPLETE, 0.5)
    out = run(unet)
    assert out.dtype == torch.bfloat16
    copied = copy.deepcopy(unet)
    stages = unet.token_clusters
    assert torch.equal(run(copied), out)
    assert unet.token_clusters is stages


def test_compiles_into_one_graph():
    unet = apply_merging(micro(), COMPLETE, 0.5)
    eager = run(unet)
    compiled = torch.compile(unet, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(run(compiled), eager)


def in_blocks(unet, **options):
    """As diffusers' ``compile_repeated_blocks``, which its oldest version here does not have."""
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock):
            module.compile(backend='eager', fullgraph=True, **options)
    return unet


@pytest.mark.parametrize(
    'compiled',
    [lambda unet: torch.compile(unet, backend='eager'), in_blocks],
    ids=['all', 'blocks'],
)
def test_what_was_compiled_of_one_unet_is_not_run_for_another(compiled):
    torch._dynamo.reset()

    for make in (micro, lambda: apply_merging(micro(), COMPLETE, 0.5)):
        torch.testing.assert_close(run(compiled(make())), run(make()))


def test_compiles_with_sizes_that_change():
    unet, context = apply_merging(micro(), COMPLETE, 0.5), torch.randn(1, 5, 8)
    compiled = in_blocks(apply_merging(micro(), COMPLETE, 0.5), dynamic=True)
    for height, width in ((8, 8), (8, 16), (12, 10)):
        sample = torch.randn(1, 4, height, width)
        with torch.no_grad():
            torch.testing.assert_close(
                compiled(sample, 500, context).sample, unet(sample, 500, context).sample
            )
            assert compiled.token_clusters[0].num_clusters == height * width // 2


def test_arguments_by_name_in_any_order():
    unet = apply_merging(micro(), COMPLETE, 0.5)
    sample, context = torch.randn(1, 4, 8, 32), torch.randn(1, 5, 8)
    with torch.no_grad():
        expected = unet(sample, 500, context).sample
        out = unet(timestep=500, encoder_hidden_states=context, sample=sample).sample
    assert torch.equal(out, expected)


def test_a_unet_without_attention_at_full_resolution_says_so():
    unet = micro(
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
    )
    apply_merging(unet, COMPLETE, 0.5)
    with pytest.warns(UserWarning, match='nothing was merged'):
        run(unet)
    apply_merging(unet, COMPLETE, 0.5, max_downsample=2)
    run(unet)
    assert len(unet.token_clusters) == 4


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(keep_rate=0), 'keep_rate must be in'),
        (dict(keep_rate=1.2), 'keep_rate must be in'),
        (dict(keep_rate='half'), 'keep_rate must be in'),
        (dict(max_downsample=0), 'max_downsample must be'),
        (dict(merging=dict(linkage='average', keep_rate=0.5)), 'leave it out of merging'),
        (dict(merging=dict(type='TopKMerging')), 'ranks tokens by attention'),
        (dict(merging=None), 'merging must be'),
    ],
)
def test_bad_arguments_leave_the_unet_as_it_was(change, message):
    unet = micro()
    hooks = hooks_of(unet)
    with pytest.raises(ValueError, match=message):
        apply_merging(**(dict(pipe_or_unet=unet, merging=COMPLETE, keep_rate=0.5) | change))
    assert hooks_of(unet) == hooks


def test_bad_models_are_refused():
    compiled = torch.compile(micro(), backend='eager')
    without = UNet2DModel(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    )
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    for model, message in (
        (compiled, 'compiled already'),
        (in_blocks(micro()), 'compiled already'),
        (without, 'no BasicTransformerBlock'),
        (vae, 'no BasicTransformerBlock'),
        (SimpleNamespace(unet=3), 'must be a pipeline'),
        (TransformerTemporalModel(2, 4, 8, norm_num_groups=4), 'attends over frames'),
    ):
        with pytest.raises(ValueError, match=message):
            apply_merging(model, COMPLETE, 0.5)
