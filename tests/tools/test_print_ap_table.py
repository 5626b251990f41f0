"""Evaluations as tables."""

from __future__ import annotations

import json

import pytest


def evaluated(work_dir, **figures):
    """Where an evaluation left figures."""
    (work_dir / 'time').mkdir()
    (work_dir / 'time' / 'time.json').write_text(json.dumps(figures) + '\n')
    return work_dir


def test_detectors_of_boxes_have_no_line_of_masks(tmp_path, run_tool, capsys):
    metrics = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    evaluated(tmp_path, **{f'coco/bbox_{metric}': 0.25 for metric in metrics})
    run_tool('tools/misc/print_ap_table.py', tmp_path)
    titles = '           AP   AP50   AP75    APs    APm    APl'
    assert capsys.readouterr().out.splitlines() == ['', titles, 'boxes ' + '  0.250' * 6]


@pytest.mark.parametrize(
    ('run', 'name'), [('lr=1e-3', ''), ('half=lr=1e-3', 'half'), ('r=0.5=lr=1e-3', 'r=0.5')]
)
def test_names_and_work_dirs_may_have_equals_signs(
    tmp_path, run_tool, capsys, monkeypatch, run, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lr=1e-3').mkdir()
    evaluated(tmp_path / 'lr=1e-3', mIoU=1, mAcc=2, aAcc=3)
    run_tool('tools/misc/print_ap_table.py', run)
    assert capsys.readouterr().out.splitlines()[-1].split() == [*name.split(), '1.0', '2.0', '3.0']


def test_evaluations_of_two_kinds_make_no_table(tmp_path, run_tool):
    for name in ('boxes', 'segments'):
        (tmp_path / name).mkdir()
    metrics = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    boxes = evaluated(tmp_path / 'boxes', **{f'coco/bbox_{metric}': 0.25 for metric in metrics})
    segments = evaluated(tmp_path / 'segments', mIoU=1, mAcc=2, aAcc=3)
    with pytest.raises(SystemExit, match=f'^error: not of one kind: {boxes} and {segments}'):
        run_tool('tools/misc/print_ap_table.py', boxes, segments)


def test_evaluations_of_another_task_are_named(tmp_path, run_tool):
    with pytest.raises(SystemExit, match=f'^error: neither AP nor mIoU in {tmp_path}'):
        run_tool('tools/misc/print_ap_table.py', evaluated(tmp_path, acc=1))
