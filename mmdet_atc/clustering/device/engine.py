"""Which form of the algorithms runs on a device."""

from __future__ import annotations

import functools
import math
import os
import warnings

import torch
from torch import Tensor

from .self_check import reason_against
from .torch_rounds import round_labels
from .torch_tree import tree_labels

#: ``1``: Triton kernels, unchecked. ``0``: plain torch. Unset: the kernels where they passed their
#: check on this device.
ENVIRONMENT = 'MMDET_ATC_TRITON'
#: The kernels count within a matrix in 32 bits.
_MOST_TOKENS = 2**15
#: Bytes of distances in memory at once; larger batches are clustered in groups of images.
_MOST_BYTES = 2**30


def cluster_directions(directions: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by cosine distance.

    Args:
        directions (Tensor): ``(B, N, C)`` unit or zero vectors, float32 or float64; what is not
            finite counts as zero, so that unchecked input cannot keep the device busy for ever.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    directions = directions.nan_to_num(0, 0, 0)
    return torch.cat(
        [
            _cluster(_cosine_distances(group, linkage), num_clusters, linkage)
            for group in _groups(directions, linkage)
        ]
    )


def _groups(x: Tensor, linkage: str) -> tuple[Tensor, ...]:
    """A batch ``(B, N, ...)`` in as few parts of about the same size as memory allows."""
    batch, num_tokens = x.shape[:2]
    parts = math.ceil(batch * num_tokens**2 * _working_type(x, linkage).itemsize / _MOST_BYTES)
    return x.split(math.ceil(batch / max(1, min(parts, batch)))) if batch else (x,)


def _working_type(x: Tensor, linkage: str) -> torch.dtype:
    """Average linkage adds distances up; minima and maxima are exact in any precision."""
    return torch.float64 if linkage == 'average' else torch.promote_types(x.dtype, torch.float32)


def _cosine_distances(directions: Tensor, linkage: str) -> Tensor:
    working = _working_type(directions, linkage)
    if directions.dtype == torch.float32 and use_triton(directions.device, directions.shape[1]):
        from .triton_distances import cosine_square

        return cosine_square(directions, working)
    return _cosine_square(directions).to(working)


def cluster_square(distances: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by given distances.

    Args:
        distances (Tensor): ``(B, N, N)`` float; the part above the diagonal is read. What is not
            finite, or too large to be added up, counts as the greatest number that is neither, so
            that unchecked input cannot keep the device busy for ever.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, as :func:`cluster_directions`.
    """
    upper = torch.ones(distances.shape[1:], dtype=torch.bool, device=distances.device).triu(1)
    return torch.cat(
        [
            _cluster(_symmetric(group, upper, linkage), num_clusters, linkage)
            for group in _groups(distances, linkage)
        ]
    )


def _symmetric(distances: Tensor, upper: Tensor, linkage: str) -> Tensor:
    """A contiguous copy, exactly symmetric: rounds need d(i, j) to be d(j, i) to find a pair."""
    working = _working_type(distances, linkage)
    # The result of `where` is laid out as its inputs are.
    square = torch.where(upper, distances, distances.mT).to(working).contiguous()
    greatest = torch.finfo(working).max
    if linkage == 'average':
        greatest /= square.shape[1] ** 2
    return square.nan_to_num_(greatest).clamp_(-greatest, greatest)


def use_triton(device: torch.device, num_tokens: int) -> bool:
    """Whether the kernels can run, exactly, and are not refused; says once why where they cannot.

    Args:
        device (torch.device): Where the tensors are.
        num_tokens (int): Tokens per image.

    Returns:
        bool: Never True where the environment's ``MMDET_ATC_TRITON`` is 0. CPU tensors: only where
        it is 1 and Triton's interpreter is on, for tests.
    """
    choice = os.environ.get(ENVIRONMENT)
    if choice == '0' or num_tokens > _MOST_TOKENS:
        return False
    if device.type == 'cpu':
        return choice == '1' and os.environ.get('TRITON_INTERPRET') == '1'
    return _kernels_work(device, unchecked=choice == '1')


@functools.cache
def _kernels_work(device: torch.device, unchecked: bool) -> bool:
    reason = ''
    try:
        import triton  # noqa: F401
    except ImportError as error:
        reason = f'Triton cannot be imported ({error})'
    else:
        if torch.version.hip is None and torch.cuda.get_device_capability(device) < (7, 0):
            reason = f'{torch.cuda.get_device_name(device)} is too old for Triton'
        elif not unchecked:
            reason = reason_against(device)
    if reason:
        warnings.warn(
            f'{reason}: clustering on {device} runs as plain torch operations, exact but slower, '
            'and waits for the device once per round, so it cannot be captured in a CUDA graph',
            stacklevel=2,
        )
    return not reason


def _cluster(square: Tensor, num_clusters: int, linkage: str) -> Tensor:
    batch, num_tokens, _ = square.shape
    if num_clusters == num_tokens or not batch:
        return torch.arange(num_tokens, device=square.device).repeat(batch, 1)
    triton = use_triton(square.device, num_tokens)
    if linkage == 'single':
        if triton:
            from . import triton_tree

            if triton_tree.fits(square):
                return triton_tree.tree_labels(square, num_clusters)
        return tree_labels(square, num_clusters)
    if triton:
        from . import triton_rounds

        return triton_rounds.round_labels(square, num_clusters, linkage)
    return round_labels(square, num_clusters, linkage)


def _cosine_square(directions: Tensor) -> Tensor:
    """``(B, N, N)`` distances, symmetric; multiplied in float64, which no TF32 setting touches."""
    products = directions.double()
    cosine = torch.matmul(products, products.mT).to(directions.dtype)
    upper = torch.ones(cosine.shape[1:], dtype=torch.bool, device=cosine.device).triu(1)
    return torch.where(upper, cosine, cosine.mT).neg_().add_(1)
