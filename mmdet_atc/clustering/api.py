"""The two public functions: argument checks, distances, choice of a backend.

The work is done by two operators of torch's own registry, ``mmdet_atc::agglomerative_clustering``
and ``mmdet_atc::linkage_clustering``, so that ``torch.compile`` and ``torch.export`` see one node
each and trace on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import device, native
from .distances import cosine_distances, unit_vectors
from .finite import require_finite, require_finite_on_device
from .hierarchy import scipy_labels, sklearn_labels

LINKAGES = ('single', 'complete', 'average')
BACKENDS = ('auto', 'cpu', 'cuda', 'sklearn')


@torch.no_grad()
def agglomerative_clustering(
    features: Tensor,
    num_clusters: int,
    linkage: str = 'average',
    backend: str = 'auto',
    check_finite: bool | None = None,
) -> Tensor:
    """Cluster each image's features bottom-up by cosine distance (ATC, section 3).

    Distances are 1 - cosine, in float32 or better whatever the dtype of the features and the
    autocast state. A zero vector has distance 1 to every other, as in scikit-learn.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype, any device.
        num_clusters (int): Number of clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``. Default: ``'average'``.
        backend (str): As :func:`linkage_clustering`. Default: ``'auto'``.
        check_finite (bool | None): As :func:`linkage_clustering`. Default: None.

    Returns:
        Tensor: Labels ``(B, N)`` int64 on the device of the features, every value of
        ``0 .. num_clusters - 1``, clusters numbered by their smallest member's position. Never
        part of a graph.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        NonFiniteError: If the features are not finite; the message names the images.
    """
    _check(features, 'features', num_clusters, linkage, backend)
    return _features_op(features.detach(), num_clusters, linkage, backend, check_finite)


@torch.no_grad()
def linkage_clustering(
    distances: Tensor,
    num_clusters: int,
    linkage: str = 'average',
    backend: str = 'auto',
    check_finite: bool | None = None,
) -> Tensor:
    """Cluster bottom-up by given distances.

    Args:
        distances (Tensor): ``(B, N, N)``, symmetric, any float dtype, any device.
        num_clusters (int): Number of clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``. Default: ``'average'``.
        backend (str): ``'cpu'`` (the C++ engine; SciPy where it cannot be compiled), ``'cuda'``
            (CUDA tensors on their device: Triton's kernels once they have passed their check there,
            plain torch where they have not or Triton is missing),
            ``'sklearn'`` (scikit-learn, what the authors run and what all backends must equal) or
            ``'auto'``: CUDA tensors on their device, others on the host. Default: ``'auto'``.
        check_finite (bool | None): Of CUDA tensors that are clustered on their device: refuse NaN
            and Inf in this call, which waits for the device (True), or do not look (False). None:
            the environment's ``MMDET_ATC_CHECK_FINITE`` (1 or 0); where that is not set, look
            without waiting and raise from a later call. What is clustered on the host is always
            checked. Default: None.

    Returns:
        Tensor: Labels ``(B, N)``, as :func:`agglomerative_clustering`.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        NonFiniteError: If a distance is not finite, or with average linkage so large that sums
            would not be; the message names the images.
        ImportError: If ``backend='sklearn'`` and scikit-learn is not installed.
    """
    _check(distances, 'distances', num_clusters, linkage, backend)
    if distances.shape[1] != distances.shape[2]:
        raise ValueError(f'distances must be (B, N, N), got {tuple(distances.shape)}')
    return _distances_op(distances.detach(), num_clusters, linkage, backend, check_finite)


# Schemas are spelled out: torch 2.4 cannot read them off postponed annotations.
_ARGUMENTS = 'SymInt num_clusters, str linkage, str backend, bool? check_finite=None'


@torch.library.custom_op(
    'mmdet_atc::agglomerative_clustering',
    mutates_args=(),
    schema=f'(Tensor features, {_ARGUMENTS}) -> Tensor',
)
def _features_op(
    features: Tensor,
    num_clusters: int,
    linkage: str,
    backend: str,
    check_finite: bool | None = None,
) -> Tensor:
    limit = torch.finfo(features.dtype).max
    _require_finite(features, 'features', limit, backend, check_finite)
    full = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        if _stays_on_device(features, backend):
            directions = unit_vectors(features.to(full))
            return device.cluster_directions(directions, num_clusters, linkage)
        directions = unit_vectors(features.cpu().to(full))
        if not _is_native(backend):
            labels = _one_by_one(cosine_distances(directions), num_clusters, linkage, backend)
            return labels.to(features.device)
        return native.cluster_directions(directions, num_clusters, linkage).to(features.device)


@torch.library.custom_op(
    'mmdet_atc::linkage_clustering',
    mutates_args=(),
    schema=f'(Tensor distances, {_ARGUMENTS}) -> Tensor',
)
def _distances_op(
    distances: Tensor,
    num_clusters: int,
    linkage: str,
    backend: str,
    check_finite: bool | None = None,
) -> Tensor:
    limit = _limit(distances, linkage)
    _require_finite(distances, 'distances', limit, backend, check_finite)
    if _stays_on_device(distances, backend):
        return device.cluster_square(distances, num_clusters, linkage)
    if not _is_native(backend):
        return _one_by_one(distances.cpu(), num_clusters, linkage, backend).to(distances.device)
    full = torch.promote_types(distances.dtype, torch.float32)
    labels = native.cluster_squares(distances.cpu().to(full), num_clusters, linkage)
    return labels.to(distances.device)


@_features_op.register_fake
@_distances_op.register_fake
def _like_labels(x: Tensor, *_: int | str | bool | None) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=torch.int64)


def _stays_on_device(x: Tensor, backend: str) -> bool:
    return x.is_cuda and backend in ('auto', 'cuda')


def _limit(distances: Tensor, linkage: str) -> float:
    """What distances have to be below: the engines keep the largest number for clusters that are
    gone, and average linkage adds up to N² distances in float64.
    """
    greatest = torch.finfo(distances.dtype).max
    if linkage != 'average':
        return greatest
    return min(greatest, torch.finfo(torch.float64).max / distances.shape[1] ** 2)


def _require_finite(x: Tensor, name: str, limit: float, backend: str, check: bool | None) -> None:
    if _stays_on_device(x, backend):
        require_finite_on_device(x, name, limit, check)
    else:
        require_finite(x, name, limit)


def _is_native(backend: str) -> bool:
    return backend != 'sklearn' and native.is_available()


def _one_by_one(distances: Tensor, num_clusters: int, linkage: str, backend: str) -> Tensor:
    """Through SciPy or scikit-learn, image by image on the host."""
    if not len(distances):
        return torch.empty(distances.shape[:2], dtype=torch.int64)
    labels_of = sklearn_labels if backend == 'sklearn' else scipy_labels
    matrices = distances.to(torch.promote_types(distances.dtype, torch.float32)).numpy()
    labels = [torch.from_numpy(labels_of(matrix, num_clusters, linkage)) for matrix in matrices]
    return _numbered_by_smallest_member(torch.stack(labels), num_clusters)


def _check(x: Tensor, name: str, num_clusters: int, linkage: str, backend: str) -> None:
    if x.ndim != 3 or not x.shape[2] or not x.is_floating_point():
        raise ValueError(
            f'{name} must be a batch of float matrices, got {tuple(x.shape)} {x.dtype}'
        )
    is_int = isinstance(num_clusters, int) and not isinstance(num_clusters, bool)
    if not is_int or not 1 <= num_clusters <= x.shape[1]:
        raise ValueError(f'num_clusters must be an int in 1..{x.shape[1]}, got {num_clusters!r}')
    if linkage not in LINKAGES:
        raise ValueError(f'linkage must be one of {LINKAGES}, got {linkage!r}')
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if backend == 'cuda' and not x.is_cuda:
        raise ValueError(f"backend='cuda' needs CUDA tensors, got one on {x.device}")


def _numbered_by_smallest_member(labels: Tensor, num_clusters: int) -> Tensor:
    """Renumber labels ``(B, N)`` so that clusters come in the order of their first token."""
    batch, num_tokens = labels.shape
    positions = torch.arange(num_tokens).expand(batch, -1)
    first = torch.full((batch, num_clusters), num_tokens)
    first = first.scatter_reduce_(1, labels, positions, 'amin')
    return first.argsort(dim=1).argsort(dim=1).gather(1, labels)
