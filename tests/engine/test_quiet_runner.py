"""The screen has what a user reads, the log file all."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from mmdet_atc.engine.quiet_runner import QuietRunner


def test_config_hooks_and_environment_are_in_the_log_file_alone(tmp_path, capsys):
    cfg = Config(dict(model=nn.Linear(1, 1), work_dir=str(tmp_path), a_key_of_mine=[1] * 50))
    runner = QuietRunner(cfg.model, str(tmp_path), experiment_name=tmp_path.name, cfg=cfg)
    hooks = runner.get_hooks_info()
    runner.logger.info(f'Hooks will be executed in the following order:\n{hooks}')
    print_log('paramwise_options -- backbone.weight:lr=1e-05', logger='current')
    print_log('first step', logger='current')
    (path,) = tmp_path.glob('*/*.log')
    screen, file = capsys.readouterr().out, path.read_text()
    assert [line.rpartition(' - ')[2] for line in screen.splitlines()] == [
        f'Config, hooks and environment are in {path}',
        'first step',
    ]
    for text in ('a_key_of_mine', 'System environment', hooks, 'paramwise_options', 'first step'):
        assert text in file
