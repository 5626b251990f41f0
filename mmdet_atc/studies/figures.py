"""One CSV of all figures that were measured: what, of what, on what, at which commit."""

from __future__ import annotations

import csv
import datetime
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmdet_atc.version import __version__

COLUMNS = (
    *('date', 'commit', 'device', 'threads', 'torch', 'benchmark', 'case', 'figure'),
    *('median', 'low', 'high', 'unit'),
)
#: Case, figure, values of the calls, unit.
Measurement = tuple[str, str, Sequence[float], str]


def measured_on(device: torch.device) -> dict[str, Any]:
    """What figures depend on beside the code: ``device``, ``threads``, ``torch``."""
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    return dict(device=name, threads=torch.get_num_threads(), torch=torch.__version__)


def append_figures(
    path: Path, benchmark: str, figures: Iterable[Measurement], device: torch.device
) -> None:
    """Append a line per figure; the file and its head are made where there is none.

    Args:
        path (Path): The CSV file.
        benchmark (str): What measured them.
        figures (Iterable): Case, such as ``'4200 tokens, average'``; figure, such as ``'time'``;
            values of each call, of which the median and the 20th and 80th percentiles are written;
            unit.
        device (torch.device): Where it ran.
    """
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    today = datetime.date.today().isoformat()
    where = (today, _commit(), *measured_on(device).values(), benchmark)
    with path.open('a', newline='') as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(COLUMNS)
        for case, figure, values, unit in figures:
            shown = [f'{value:.4g}' for value in np.quantile(values, (0.5, 0.2, 0.8))]
            writer.writerow([*where, case, figure, *shown, unit])


def _commit() -> str:
    """Short hash of the checkout, with a ``+`` if the package was changed; else the version."""
    folder = Path(__file__).parents[1]

    def git(*args: str) -> str:
        command = ['git', '-C', str(folder), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git('status', '--porcelain', '--untracked-files=no', '--', '.')
        return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return __version__
