"""One step of training and an evaluation of a full-size config on COCO images."""

from __future__ import annotations

import pytest

from .micro_runs import losses
from .processes import run


@pytest.mark.slow
def test_a_config_of_the_paper_trains_and_evaluates_on_coco(coco_tiny, tmp_path):
    result = run(
        tmp_path, 'tools/train.py', 'configs/atc_vit_adapter_t_average_r50.py',
        '--work-dir', str(tmp_path), '--cfg-options', 'load_from=None', 'total_batch_size=2',
        'train_dataloader.dataset.indices=4', 'val_dataloader.dataset.indices=2',
        'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1',
        COCO_ROOT=str(coco_tiny),
    )  # fmt: skip
    assert sorted(losses(tmp_path)) == [1, 2]
    text = result.stdout + result.stderr
    assert text.count('Average Precision  (AP)') == 12
    assert text.count('Average Recall     (AR)') == 12
    assert (tmp_path / 'epoch_1.pth').exists()
