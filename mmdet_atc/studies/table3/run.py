"""Evaluate cells one after another, each saved when it is done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdet_atc.checkpoints import replaced

from .cells import Cell


@dataclass(frozen=True)
class Sweep:
    """Where a sweep writes and how it evaluates.

    Args:
        root (Path): Root of the project, which has ``configs`` and ``tools``.
        out_dir (Path): Folder of results; cells that are there are not evaluated again.
        dense (dict[str, str]): Dense checkpoint of each size.
        released (str): What the fine-tuned checkpoints lie under.
        processes (int): Processes (GPUs) of an evaluation. Default: 1.
        cfg_options (Sequence[str]): More ``KEY=VALUE`` for every evaluation. Default: none.
        limit_images (int, optional): Images of a quick look, the first ones. Default: all.
        dense_config (str, optional): Config of a dense detector that merging is put into. None is
            the paper's configs. Default: None.
    """

    root: Path
    out_dir: Path
    dense: dict[str, str]
    released: str
    processes: int = 1
    cfg_options: Sequence[str] = ()
    limit_images: int | None = None
    dense_config: str | None = None

    def evaluate(self, cell: Cell) -> dict:
        """Figures of a cell: evaluated by ``tools/test.py``, or read if saved before.

        Args:
            cell (Cell): The cell.

        Returns:
            dict: ``box_ap`` and ``mask_ap`` in per cent, ``images_per_s`` over all processes
            (loading and post-processing included), ``memory_mib`` (None on the CPU), ``source``
            (checkpoint, options, processes, and what else is given).

        Raises:
            RuntimeError: If the evaluation fails; the message ends with its last lines.
            ValueError: If a checkpoint that the cell needs is not given, or the saved figures are
                of another checkpoint, other images, options or number of processes.
        """
        checkpoint = cell.checkpoint(self.dense, self.released)
        if '://' not in checkpoint:
            # Called from another folder, the same relative path is another file.
            checkpoint = str(Path(checkpoint).resolve())
        cfg_options = list(self.cfg_options)
        source: dict[str, Any] = dict(
            checkpoint=checkpoint, cfg_options=cfg_options, processes=self.processes
        )
        config, options = str(self.root / cell.config), cfg_options
        if self.dense_config is not None:
            source['config'] = config = str(Path(self.dense_config).resolve())
            options = cfg_options + cell.merging_options
        options = ['--cfg-options', *options] if options else []
        if self.limit_images is not None:
            source['limit_images'] = self.limit_images
            options = ['--limit-images', str(self.limit_images), *options]
        path = self.out_dir / 'cells' / f'{cell.name}.json'
        if path.exists():
            figures = json.loads(path.read_text())
            if figures.get('source') != source:
                raise ValueError(
                    f'{path} was saved of another evaluation ({figures.get("source")}, now '
                    f'{source}): name another --out-dir'
                )
            return figures
        work_dir = self.out_dir / 'runs' / cell.name
        work_dir.mkdir(parents=True, exist_ok=True)
        if self.processes > 1:
            tool = ['bash', str(self.root / 'tools/dist_test.sh')]
            command = [*tool, config, checkpoint, str(self.processes)]
        else:
            command = [sys.executable, str(self.root / 'tools/test.py'), config, checkpoint]
        command += ['--work-dir', str(work_dir.resolve()), *options]
        environment = {**os.environ, 'PYTHON': sys.executable}
        log = work_dir / 'output.log'
        with log.open('w') as stream:
            result = subprocess.run(
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )
        text = log.read_text()
        if result.returncode:
            raise RuntimeError(f'{cell.name} failed, see {log}:\n{text[-2000:]}')
        figures = dict(self._figures(work_dir, text), source=source)
        # A sweep can be killed at any time.
        with replaced(path) as file:
            file.write(json.dumps(figures, indent=1).encode())
        return figures

    def _figures(self, work_dir: Path, text: str) -> dict:
        latest = max(work_dir.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
        metrics = json.loads(latest.read_text())
        # The config as it ran; times are of a batch.
        dumped = max(work_dir.glob('*.py'), key=lambda path: path.stat().st_mtime)
        batch = Config.fromfile(dumped).test_dataloader.batch_size
        memory = [int(value) for value in re.findall(r'memory: (\d+)', text)]
        return dict(
            box_ap=100 * metrics['coco/bbox_mAP'],
            mask_ap=100 * metrics['coco/segm_mAP'],
            images_per_s=self.processes * batch / metrics['time'],
            memory_mib=max(memory) if memory else None,
        )
