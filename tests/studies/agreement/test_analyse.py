"""A detector's clusters against masks: a merger that follows the picture, and the tool."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import nn

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.datasets import generate_shapes_dataset
from mmdet_atc.merging import TokenMerger
from mmdet_atc.studies.agreement import REGIONS, Analysis, Partition, analyse, as_json
from mmdet_atc.studies.agreement.plots import _styles

from ...backbones.micro import MICRO
from ...conftest import ROOT

CONFIG = 'configs/atc_vit_adapter_micro_shapes.py'
TOOL = 'tools/analysis_tools/analyse_clusters.py'


class Halves(TokenMerger):
    """Tokens in row-major order, in runs of equal length: of a square, its rows."""

    def assign(self, keys, num_clusters):
        runs = torch.arange(keys.shape[1]) * num_clusters // keys.shape[1]
        return runs.expand(len(keys), -1)


class Detector(nn.Module):
    """What ``analyse`` uses of one: a backbone, and a preprocessor that pads on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ATCViTAdapter(merging=dict(keep_rate=0.5), **MICRO)
        self.backbone.merger = Halves(0.5)

    def data_preprocessor(self, batch: dict, training: bool) -> dict:
        inputs = torch.stack(batch['inputs']).float()
        padding = -inputs.shape[-1] % 64
        return dict(inputs=nn.functional.pad(inputs, (0, padding)))


def sample(objects: np.ndarray, width: int = 64) -> dict:
    """An image of 64 pixels height whose masks were annotated at half its size."""
    masks = BitmapMasks(objects, *objects.shape[1:])
    none = BitmapMasks(objects[:0], *objects.shape[1:])
    truth = DetDataSample(metainfo=dict(img_shape=(64, width), img_path='image.png'))
    truth.gt_instances = InstanceData(masks=masks)
    truth.ignored_instances = InstanceData(masks=none)
    return dict(inputs=torch.zeros(3, 64, width), data_samples=truth)


def test_figures_of_a_merger_that_is_known():
    objects = np.zeros((1, 32, 32), dtype=np.uint8)
    objects[0, :8] = 1  # the upper quarter: the first of four rows of patches
    figures = analyse(Detector().eval(), [sample(objects)], [0])
    # 16 patches to 8 runs of 2, 4 runs of 4 (rows), 2 runs of 8 (two rows).
    assert [stage.tokens for stage in figures.stages] == [[8], [4], [2]]
    assert [stage.block for stage in figures.stages] == [4, 7, 10]
    assert (figures.method, figures.keep_rates) == ('Halves', (0.5, 0.5, 0.5))
    assert figures.patches.mean('purity') == 1
    assert [stage.mean('purity') for stage in figures.stages] == [1, 1, 0.75]
    assert [stage.mean('object_purity') for stage in figures.stages] == [1, 1, 1]  # a tie
    assert [stage.mean('under_segmentation_error') for stage in figures.stages] == [0, 0, 0.5]
    assert figures.stages[2].mean('object_under_segmentation_error') == 1
    assert [stage.sizes.tolist() for stage in figures.stages] == [[0, 8], [0, 0, 4], [0, 0, 0, 2]]
    small, background = REGIONS.index('small objects'), REGIONS.index('background')
    assert figures.patches.regions[[small, background]].tolist() == [4, 12]
    assert figures.stages[2].regions[[small, background]].tolist() == [0.5, 1.5]
    # Two regular blocks are a half each, of whatever the image shows.
    assert figures.blocks[2].tokens == [2]


def test_means_are_over_the_images_that_have_objects():
    objects = np.zeros((1, 32, 32), dtype=np.uint8)
    objects[0, :8] = 1
    empty = np.zeros((0, 32, 32), dtype=np.uint8)
    figures = analyse(Detector().eval(), [sample(objects), sample(empty)], [0, 1])
    last = figures.stages[2]
    assert last.tokens == [2, 2]
    assert last.mean('purity') == (0.75 + 1) / 2
    assert last.mean('object_purity') == 1
    record = as_json(dict(model=analyse(Detector().eval(), [sample(empty)], [0])))
    assert record[0]['stages'][2]['agreement']['object_purity'] is None
    json.dumps(record, allow_nan=False)


def test_padding_is_a_region_of_its_own():
    empty = np.zeros((0, 32, 24), dtype=np.uint8)
    figures = analyse(Detector().eval(), [sample(empty, width=48)], [0])
    assert figures.patches.regions[REGIONS.index('padding')] == 4
    assert figures.stages[0].regions.sum() == 8
    assert figures.stages[0].mean('purity') == 1


def test_a_model_that_merges_nothing_and_samples_without_masks_are_refused():
    model = Detector().eval()
    item = sample(np.zeros((0, 32, 32), dtype=np.uint8))
    del item['data_samples'].gt_instances.masks

    class Items(list):
        ann_file = 'a.json'

    with pytest.raises(ValueError, match=r'image\.png: no masks were loaded'):
        analyse(model, Items([item]), [0])
    model.backbone.merger = None
    with pytest.raises(ValueError, match='ATCViTAdapter merges no tokens'):
        analyse(model, Items([item]), [0])


@pytest.fixture
def tool(run_tool, monkeypatch):
    monkeypatch.chdir(ROOT)
    return functools.partial(run_tool, TOOL, '--device', 'cpu')


def test_the_tool_writes_tables_figures_and_plots(tmp_path, tool, capsys, monkeypatch):
    data = generate_shapes_dataset(tmp_path / 'shapes', 1, 3)
    monkeypatch.setenv('SHAPES_ROOT', str(data))
    out = tmp_path / 'out'
    other = f'{CONFIG},model.backbone.merging.linkage=single'
    tool(CONFIG, other, '--limit-images', '2', '--out-dir', str(out))
    printed = capsys.readouterr()
    assert '2/2' in printed.err
    content = json.loads((out / 'clusters.json').read_text())
    assert content['source']['images'] == 2
    names = ['atc_vit_adapter_micro_shapes', 'atc_vit_adapter_micro_shapes, linkage=single']
    assert [row['name'] for row in content['rows']] == names
    methods = ['AgglomerativeMerging average', 'AgglomerativeMerging single']
    assert [row['method'] for row in content['rows']] == methods
    for row in content['rows']:
        assert [stage['block'] for stage in row['stages']] == [4, 7, 10]
        before = row['patches']['agreement']
        for stage in row['stages']:
            # Merging can only lose.
            after = stage['agreement']
            assert after['purity'] <= before['purity'] < 1
            assert 0 < before['under_segmentation_error'] <= after['under_segmentation_error'] <= 1
            assert sum(stage['regions'].values()) == pytest.approx(2 * stage['tokens'])
            before = after
    text = (out / 'clusters.md').read_text()
    assert text in printed.out
    assert 'random weights' in text
    for name in ('agreement.png', 'sizes.png', 'survival.png'):
        assert (out / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([CONFIG, CONFIG], 'error: given more than once: atc_vit_adapter_micro_shapes'),
        (['configs/none.py'], "error: no config at 'configs/none.py'"),
        ([CONFIG, '--limit-images', '0'], '--limit-images: must be a whole number of at least 1'),
        ([CONFIG, '--device', 'cuda:99'], "argument --device: 'cuda:99' cannot be used here"),
        ([CONFIG, '--checkpoints', 'a', 'b'], '2 checkpoints for 1 configs'),
    ],
)
def test_the_tool_says_what_is_wrong(args, message, tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool(*args)
    assert message in f'{stop.value.code}{capsys.readouterr().err}'


def test_lines_of_a_plot_are_told_apart():
    def model(method: str, rate: float) -> Analysis:
        return Analysis(method, (rate,) * 3, Partition(0), [], [])

    models = {f'{m} {r}': model(m, r) for m in ('a', 'b') for r in (0.25, 0.5)}
    styles = _styles({**models, 'tuned': model('a', 0.5)})
    lines = [(s['color'], s['marker'], s['linestyle']) for s in styles.values()]
    assert len(set(lines)) == 5
    assert styles['a 0.25']['color'] == styles['a 0.5']['color'] != styles['b 0.5']['color']
    assert styles['a 0.25']['marker'] == styles['b 0.25']['marker'] != styles['b 0.5']['marker']
    assert styles['tuned']['color'] == styles['a 0.5']['color']
