from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from mmengine.dist import utils
from mmengine.logging import MMLogger

from mmdet_atc.engine import MainProcessLoggerHook


@pytest.mark.parametrize(('rank', 'files'), [(0, 1), (1, 0)])
def test_one_process_writes_the_figures_of_a_test(rank, files, tmp_path, monkeypatch):
    monkeypatch.setattr(utils, 'get_rank', lambda *args: rank)
    processor = SimpleNamespace(get_log_after_epoch=lambda *args, **kwargs: ({'AP': 0.5}, 'text'))
    runner = SimpleNamespace(
        log_processor=processor,
        test_dataloader=[],
        logger=MMLogger.get_current_instance(),
        log_dir=str(tmp_path),
    )
    hook = MainProcessLoggerHook()
    hook.json_log_path = 'figures.json'
    hook.after_test_epoch(runner)
    written = list(tmp_path.iterdir())
    assert len(written) == files
    assert all(json.loads(file.read_text()) == {'AP': 0.5} for file in written)
