"""Do the Triton kernels give exact partitions on this very device? Found out once per machine.

Kernels are compiled at first use, by whichever Triton is installed for whichever device is there.
So a child process runs them first, beside the plain torch form: where they do not compile, crash,
hang or differ, the process that asked is unharmed and does without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_atc.native import cache_folder

from .torch_rounds import round_labels
from .torch_tree import tree_labels

_FOLDER = Path(__file__).parent
#: What the child runs; a device is added.
COMMAND: tuple[str, ...] = (sys.executable, '-m', __package__)
#: The child imports torch, compiles the kernels for about 35 kinds of arguments and runs them.
TIMEOUT_SECONDS = 600.0
#: Tokens per image; the largest is an image of 800×1333.
_SIZES = (2, 37, 300, 1024, 4200)
#: Images per batch, which end after different numbers of rounds.
_BATCH = 2


def reason_against(device: torch.device) -> str:
    """Why the kernels should not be used on a CUDA device; empty where they have passed.

    Args:
        device (torch.device): The device.

    Returns:
        str: One line. A pass is remembered in the user's cache, until device, torch, Triton or
        the kernels are others; a failure is not, it may have been the machine's state.
    """
    passed = cache_folder('triton') / f'{_fingerprint(device)}.passed'
    if passed.exists():
        return ''
    logging.getLogger(__name__).info(
        'checking the Triton kernels on %s, once per machine', torch.cuda.get_device_name(device)
    )
    reason = _reason_of_child(device)
    if not reason:
        # Where the cache cannot be written the next process checks again.
        with contextlib.suppress(OSError):
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()
    return reason


def _reason_of_child(device: torch.device) -> str:
    # The package may have been found through sys.path alone.
    paths = [str(_FOLDER.parents[2]), os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}
    failed = 'Triton kernels failed their check'
    try:
        child = subprocess.run(
            [*COMMAND, str(device)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f'{failed} (no end after {TIMEOUT_SECONDS:.0f} s)'
    except OSError as error:
        return f'{failed} (it cannot be started: {error})'
    if child.returncode == 0:
        return ''
    lines = child.stderr.strip().splitlines() or [f'exit status {child.returncode}']
    return f'{failed} ({lines[-1]})'


def _fingerprint(device: torch.device) -> str:
    import triton

    parts = [file.read_bytes() for file in sorted(_FOLDER.glob('*.py'))]
    properties = torch.cuda.get_device_properties(device)
    versions = (torch.__version__, torch.version.cuda, torch.version.hip, triton.__version__)
    parts += [repr((properties.name, versions)).encode()]
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


def differences(device: torch.device, sizes: Sequence[int] = _SIZES) -> list[str]:
    """Run the kernels beside the plain torch form.

    Args:
        device (torch.device): Device.
        sizes (Sequence[int]): Tokens per image, at least 2. Default: small ones up to 4200.

    Returns:
        list[str]: What differs, one line each.
    """
    found = []
    for size in sizes:
        generator = torch.Generator().manual_seed(size)
        features = torch.randn(_BATCH, size, 64, generator=generator)
        directions = F.normalize(features, dim=-1).to(device)
        found += _distance_differences(directions)
        exact = 1 - directions @ directions.mT
        upper = torch.randint(0, 4, exact.shape, generator=generator).to(exact)
        # Small whole numbers tie everywhere; the largest size is for offsets, and ties take long.
        inputs = dict(features=exact) if size > 1024 else dict(features=exact, ties=upper)
        for name, square in inputs.items():
            symmetric = square.triu(1) + square.triu(1).mT
            for num_clusters in {1, size // 2}:
                found += [
                    f'{linkage} linkage of {size} tokens ({name}) to {num_clusters} clusters'
                    for linkage in ('single', 'complete', 'average')
                    if not _agree(symmetric, num_clusters, linkage)
                ]
    return found


def _distance_differences(directions: Tensor) -> list[str]:
    from .triton_distances import cosine_square

    square = cosine_square(directions, torch.float64)
    exact = 1 - directions.double() @ directions.double().mT
    # TF32 would be off by 2**-11.
    is_close = torch.allclose(square, exact, rtol=0, atol=2**-20)
    if is_close and torch.equal(square, square.mT):
        return []
    return [f'distances of {directions.shape[1]} tokens']


def _agree(square: Tensor, num_clusters: int, linkage: str) -> bool:
    from . import triton_rounds, triton_tree

    if linkage == 'single':
        labels = triton_tree.tree_labels(square, num_clusters)
        return torch.equal(labels, tree_labels(square, num_clusters))
    # Rounds overwrite their input.
    working = square.double() if linkage == 'average' else square
    labels = triton_rounds.round_labels(working.clone(), num_clusters, linkage)
    return torch.equal(labels, round_labels(working.clone(), num_clusters, linkage))
