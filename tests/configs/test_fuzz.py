"""Random backbone configs: valid ones build and run, invalid ones raise one clear error."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmdet_atc.backbones.vit_adapter import ACTIVATIONS
from mmdet_atc.merging import TOKEN_MERGERS

FUZZ = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
RATES = st.floats(0.01, 1)
#: Each token merger, and its arguments beside the keep rate.
MERGERS: dict[str, dict[str, st.SearchStrategy]] = dict(
    AgglomerativeMerging=dict(linkage=st.sampled_from(['single', 'complete', 'average'])),
    BipartiteMerging={},
    EViTMerging={},
    DPCKNNMerging=dict(num_neighbors=st.integers(1, 30)),
    KMedoidsMerging=dict(num_iterations=st.integers(0, 3)),
    TopKMerging={},
)


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmdet')  # runners of other tests leave another


@st.composite
def backbones(draw) -> dict:
    """A valid config of a small backbone."""
    depth = draw(st.integers(1, 5))
    cuts = sorted(draw(st.sets(st.integers(1, depth - 1)))) if depth > 1 else []
    firsts, lasts = [0, *cuts], [cut - 1 for cut in cuts] + [depth - 1]
    heads = draw(st.sampled_from([1, 2, 3]))
    side = draw(st.sampled_from([16, 32, 224]))
    cfg = dict(
        type='ATCViTAdapter',
        depth=depth,
        embed_dim=12 * draw(st.integers(1, 3)),
        num_heads=heads,
        mlp_ratio=draw(st.sampled_from([1, 2.5, 4])),
        qkv_bias=draw(st.booleans()),
        drop_path_rate=draw(st.sampled_from([0, 0.1, 0.9])),
        layer_scale=draw(st.booleans()),
        img_size=side,
        pretrain_size=side,
        conv_inplane=draw(st.integers(1, 8)),
        n_points=draw(st.integers(1, 4)),
        deform_num_heads=draw(st.sampled_from([1, 2, 3])),
        init_values=draw(st.floats(-1, 1)),
        interaction_indexes=[[a, b] for a, b in zip(firsts, lasts)],
        with_cffn=draw(st.booleans()),
        cffn_ratio=draw(st.sampled_from([0.25, 1])),
        deform_ratio=draw(st.sampled_from([0.5, 1])),
        add_vit_feature=draw(st.booleans()),
        vit_features=draw(st.sampled_from(['last', 'each'] if len(firsts) == 4 else ['last'])),
        out_indices=sorted(draw(st.sets(st.integers(0, 3), min_size=1))),
        use_extra_extractor=draw(st.booleans()),
        with_cp=draw(st.booleans()),
        pre_norm=draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        frozen_blocks=draw(st.integers(0, depth)),
        norm_cfg=draw(st.sampled_from([None, dict(type='BN'), dict(type='GN', num_groups=1)])),
    )
    kind = draw(st.sampled_from([*MERGERS, None]))
    if kind is None:
        cfg['window_attn'] = draw(st.lists(st.booleans(), min_size=depth, max_size=depth))
        cfg['window_size'] = draw(st.integers(1, 5))
        cfg['merging'], cfg['merge_blocks'] = None, [0]
        return cfg
    cfg['num_registers'] = draw(st.integers(0, 3))
    blocks = sorted(draw(st.sets(st.integers(0, depth - 1), min_size=1)))
    size = len(blocks)
    rate = draw(st.one_of(RATES, st.lists(RATES, min_size=size, max_size=size)))
    own = {name: draw(values) for name, values in MERGERS[kind].items()}
    cfg['merging'] = dict(type=kind, keep_rate=rate, **own)
    cfg['merge_blocks'] = blocks
    cfg['proportional_attn'] = draw(st.booleans())
    cfg['padding_aware'] = draw(st.booleans())
    return cfg


def test_every_merger_is_drawn():
    ours = [
        name
        for name, kind in TOKEN_MERGERS.module_dict.items()
        if kind.__module__.startswith('mmdet_atc.merging.')
    ]
    assert sorted(MERGERS) == sorted(ours)


@FUZZ
@given(
    cfg=backbones(),
    height=st.sampled_from([32, 64]),
    width=st.sampled_from([32, 96]),
    padding=st.integers(0, 31),
    training=st.booleans(),
)
def test_valid_configs_build_and_run(cfg, height, width, padding, training):
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg)).train(training)
    image = torch.randn(2, 3, height, width)
    outputs = model(image, [(height, width), (height - padding, width)])
    strides = [4 * 2**index for index in cfg['out_indices']]
    for stride, output in zip(strides, outputs, strict=True):
        assert output.shape == (2, cfg['embed_dim'], height // stride, width // stride)
        assert output.isfinite().all()
    if training:
        sum(output.sum() for output in outputs).backward()


NUMBERS = [0, -1, math.nan, math.inf, 'many', None, [3]]
RATIOS = [*NUMBERS, True]
NO_BOOLS = ['no', 'False', 0, 1, None, []]
BREAKS: dict[str, list] = dict(
    depth=[*NUMBERS, 2.5],
    embed_dim=[*NUMBERS, 12.5],
    num_heads=[*NUMBERS, 1.5, 5],
    deform_num_heads=[*NUMBERS, 1.5, 5],
    n_points=[*NUMBERS, 1.5],
    conv_inplane=[*NUMBERS, 1.5],
    patch_size=[*NUMBERS, 8, 32],
    img_size=[*NUMBERS, 225],
    pretrain_size=[*NUMBERS, 100],
    mlp_ratio=RATIOS,
    cffn_ratio=RATIOS,
    deform_ratio=RATIOS,
    drop_path_rate=[-0.1, 1, 2, math.nan, '0.1', None],
    init_values=[math.nan, math.inf, 'zero', None],
    interaction_indexes=[
        [[1, 2]], [[0, 0], [0, 5]], [[7]], [], [[]], [0, 1], 'all', 5, [['a', 'b']],
    ],
    qkv_bias=NO_BOOLS,
    layer_scale=NO_BOOLS,
    with_cffn=NO_BOOLS,
    add_vit_feature=NO_BOOLS,
    vit_features=['all', '', None, True],
    out_indices=[[], [4], [-1], ['a'], [1, 0], [0, 0], 2, None, [True], '01'],
    use_extra_extractor=NO_BOOLS,
    with_cp=NO_BOOLS,
    proportional_attn=NO_BOOLS,
    window_attn=['yes', 1, None, [True] * 20, ['a'] * 3],
    window_size=[0, -1, 1.5, math.nan, True, 'many', '14', [], [3] * 20],
    norm_cfg=['BN', dict(), dict(type='NoSuchNorm'), 3],
    pre_norm=NO_BOOLS,
    num_registers=[-1, 65, 1.5, True, math.nan, 'few', None],
    activation=['relu', 'GELU', None, [3]],
    norm_eps=[0, -1e-6, math.nan, math.inf, 'small', None, True],
    frozen_blocks=[-1, 99, 1.5, True, 'all', None],
    padding_aware=NO_BOOLS,
    merge_blocks=[[], [99], [-1], ['a'], [0, 0], 3, None, [True], [0.0]],
    merging=[
        'ATC', 3, dict(type='NoSuchMerging'), dict(keep_rate=0), dict(keep_rate=1.01),
        dict(keep_rate=math.nan), dict(keep_rate='0.5'), dict(keep_rate=[]),
        dict(keep_rate=[0.5] * 9), dict(linkage='ward'), dict(linkage=None),
        dict(backend='gpu'), dict(no_such_argument=1),
        *(dict(padding_aware=value) for value in NO_BOOLS),
        dict(type='BipartiteMerging', keep_rate=-1),
        *(dict(type='DPCKNNMerging', num_neighbors=value) for value in [0, 1.5, True, 'few', None]),
        *(dict(type='KMedoidsMerging', num_iterations=v) for v in [-1, 1.5, True, 'few', None]),
        dict(type='TopKMerging', keep_rate=2),
    ],
)  # fmt: skip
CASES = [(name, value) for name, values in BREAKS.items() for value in values]


@FUZZ
@given(cfg=backbones(), case=st.sampled_from(CASES))
def test_random_invalid_configs_raise_one_clear_error(cfg, case):
    # Windows exclude merging and registers, which is another error.
    _check({**cfg, 'window_attn': False}, *case)


@pytest.mark.parametrize(('name', 'value'), CASES)
def test_each_invalid_value_raises_one_clear_error(name, value):
    cfg = dict(
        type='ATCViTAdapter', depth=2, embed_dim=12, num_heads=3, deform_num_heads=3,
        conv_inplane=2, interaction_indexes=[[0, 0], [1, 1]], merge_blocks=[0],
        merging=dict(keep_rate=0.5),
    )  # fmt: skip
    _check(cfg, name, value)


def _check(cfg: dict, name: str, value: object) -> None:
    # Exactly a ValueError whose text is checked below: the texts are many.
    with pytest.raises(ValueError) as error:  # noqa: PT011
        MODELS.build({**cfg, name: value})
    message = str(error.value)
    named = [name, *value] if isinstance(value, dict) else [name]
    assert any(word in message for word in named), message
    assert '\n' not in message
