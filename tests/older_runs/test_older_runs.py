"""Runs of older versions go on: their names build, their configs load, their checkpoints resume.

``dcbfd2e/`` has what a run at that commit left: the config as MMEngine saved it, the checkpoint
after the first of two epochs, and the losses of both.
"""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from mmengine.registry import FUNCTIONS

from mmdet_atc.datasets import generate_shapes_dataset
from mmdet_atc.merging import TOKEN_MERGERS

from ..tools.micro_runs import losses
from ..tools.processes import run

FOLDER = Path(__file__).with_name('dcbfd2e')
#: All names that dcbfd2e registered.
NAMES = {
    'models': (MODELS, ('ViTAdapter', 'ATCViTAdapter')),
    'mergers': (
        TOKEN_MERGERS,
        (
            *('AgglomerativeMerging', 'BipartiteMerging', 'DPCKNNMerging'),
            *('KMedoidsMerging', 'TopKMerging'),
        ),
    ),
    'hooks': (
        HOOKS,
        (
            *('AtomicCheckpointHook', 'CheckpointFitHook', 'ClusterVisualizationHook'),
            *('EpochSeedHook', 'FiniteCheckHook', 'MainProcessLoggerHook'),
        ),
    ),
    'data sets': (DATASETS, ('CheckedCocoDataset',)),
    'metrics': (METRICS, ('CheckedCocoMetric',)),
    'transforms': (TRANSFORMS, ('MatchAnnotatedSize', 'CheckJPEGEnd')),
    'functions': (FUNCTIONS, ('seed_worker',)),
}
#: What the constructors cannot do without.
ARGUMENTS = {
    'mergers': dict(keep_rate=0.5),
    'data sets': dict(lazy_init=True, pipeline=[]),
}


@pytest.mark.parametrize(
    ('kind', 'name'), [(kind, name) for kind, (_, names) in NAMES.items() for name in names]
)
def test_every_registered_name_builds(kind, name):
    registry, _ = NAMES[kind]
    if kind == 'functions':  # configs name them, the data loader calls them
        assert callable(registry.get(name))
    else:
        found = registry.build(dict(type=name, **ARGUMENTS.get(kind, {})))
        assert type(found).__name__ == name


@pytest.fixture
def older(tmp_path):
    """A work dir with the older checkpoint, and data like those of the run."""
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    with lzma.open(FOLDER / 'epoch_1.pth.xz') as packed, (work_dir / 'epoch_1.pth').open('wb') as f:
        shutil.copyfileobj(packed, f)
    return work_dir, generate_shapes_dataset(tmp_path / 'shapes', 12, 6)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < (2, 10),
    reason='torch 2.6 rounds otherwise and takes other regions, whose box loss differs by 1 %',
)
def test_an_older_run_resumes_to_the_same_losses(older):
    work_dir, data = older
    run(
        data, 'tools/train.py', str(FOLDER / 'config.py'), '--work-dir', str(work_dir), '--resume',
        '--cfg-options', f'data_root={data}',
    )  # fmt: skip
    recorded = {
        int(i): loss for i, loss in json.loads((FOLDER / 'losses.json').read_text()).items()
    }
    second_epoch = {i: loss for i, loss in recorded.items() if i > 3}
    # Equal where it was made; other processors round otherwise.
    assert losses(work_dir) == pytest.approx(second_epoch, rel=1e-4)
    assert list(work_dir.glob('*/vis_data/vis_image/clusters_0_*.png'))


@pytest.mark.slow
def test_an_older_checkpoint_is_evaluated(older):
    work_dir, data = older
    result = run(
        data, 'tools/test.py', str(FOLDER / 'config.py'), str(work_dir / 'epoch_1.pth'),
        '--work-dir', str(work_dir), '--cfg-options', f'data_root={data}',
    )  # fmt: skip
    assert 'coco/segm_mAP' in result.stdout + result.stderr
