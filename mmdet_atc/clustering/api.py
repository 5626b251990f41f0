"""The public functions: argument checks and the choice of a form.

The work is done by two operators of torch's own registry, ``mmdet_atc::agglomerative_clustering``
and ``mmdet_atc::linkage_clustering``, so that ``torch.compile`` and ``torch.export`` see one node
each and trace on.
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch
from torch import Tensor

from mmdet_atc.arguments import is_integer
from mmdet_atc.native import operator

from .distances import FRACTION_BITS, MOST_TOKENS
from .finite import require_finite, require_finite_on_device
from .forms import cpp, plain, sklearn_oracle, triton

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

    The distance is 1 - cosine as a whole number, see :mod:`mmdet_atc.clustering.distances`: labels
    are the same on every device, whatever the batch, the threads and the autocast state. A zero
    vector has distance 1 to every other, as in scikit-learn.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype, any device; at most 32,767 tokens.
        num_clusters (int): Number of clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``. Default: ``'average'``.
        backend (str): ``'cpu'`` (C++, plain torch where it cannot be compiled), ``'cuda'`` (CUDA
            tensors on their device), ``'sklearn'`` (scikit-learn, what the authors run, on the same
            distances) or ``'auto'``: CUDA tensors on their device, others on the host.
            Default: ``'auto'``.
        check_finite (bool | None): Of CUDA tensors that are clustered on their device: refuse NaN
            and Inf in this call, which waits for the device (True), or do not look (False). None:
            the environment's ``MMDET_ATC_CHECK_FINITE`` (1 or 0); where that is not set, look
            without waiting and raise from a later call. What is clustered on the host is always
            checked. Default: None.

    Returns:
        Tensor: Labels ``(B, N)`` int64 on the device of the features, every value of
        ``0 .. num_clusters - 1``, clusters numbered by their smallest member's position. Never
        part of a graph.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        NonFiniteError: If the features are not finite; the message names the images.
        ImportError: If ``backend='sklearn'`` and scikit-learn is not installed.
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
    """Cluster bottom-up by given distances; labels are scikit-learn's, with the tie rule.

    Args:
        distances (Tensor): ``(B, N, N)``, symmetric, any float dtype, any device; the part above
            the diagonal is read.
        num_clusters (int): Number of clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``. Default: ``'average'``.
        backend (str): As :func:`agglomerative_clustering`; all but ``'sklearn'`` are plain torch.
            Default: ``'auto'``.
        check_finite (bool | None): As :func:`agglomerative_clustering`. Default: None.

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


@torch.no_grad()
def linkage(features: Tensor, num_clusters: int = 1, method: str = 'average') -> Tensor:
    """The merges themselves, in order, as SciPy writes them.

    Args:
        features (Tensor): As :func:`agglomerative_clustering`; clustered on the host, in C++.
        num_clusters (int): Clusters to stop at, in ``1 .. N``. Default: 1.
        method (str): ``'single'``, ``'complete'`` or ``'average'``. Default: ``'average'``.

    Returns:
        Tensor: ``(B, N - num_clusters, 4)`` float64, CPU. A row is a merge: two clusters (tokens
        are ``0 .. N - 1``, row i makes cluster ``N + i``), their distance 1 - cosine, the number of
        tokens in the new cluster. With ``num_clusters=1`` an image's rows are what SciPy's
        ``fcluster`` and ``dendrogram`` take.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        NonFiniteError: If the features are not finite; the message names the images.
        RuntimeError: If C++ cannot be compiled here; the message says why.
    """
    _check(features, 'features', num_clusters, method, 'cpu')
    _require_finite(features, 'features', torch.finfo(features.dtype).max, 'cpu', True)
    if reason := cpp.why_not():
        raise RuntimeError(f'linkage is written in C++ only: {reason}')
    merges = cpp.first_merges(features.detach(), num_clusters, method)
    batch, num_tokens, _ = features.shape
    rows = [row for image in merges for row in _scipy_rows(image, num_tokens)]
    return torch.tensor(rows, dtype=torch.float64).view(batch, num_tokens - num_clusters, 4)


def _scipy_rows(merges: Tensor, num_tokens: int) -> list[tuple[float, ...]]:
    """Of merges ``(M, 3)``: height, and a token of each of the two clusters."""
    parent, size = list(range(num_tokens)), [1] * num_tokens
    cluster = list(range(num_tokens))  # by root

    def root(token: int) -> int:
        while parent[token] != token:
            parent[token] = parent[parent[token]]
            token = parent[token]
        return token

    rows = []
    for index, (height, low, high) in enumerate(merges.tolist()):
        low, high = root(low), root(high)
        size[low] += size[high]
        pair = sorted((cluster[low], cluster[high]))
        rows.append((*pair, height / 2**FRACTION_BITS, size[low]))
        parent[high] = low
        cluster[low] = num_tokens + index
    return rows


# Schemas are spelled out: torch 2.4 cannot read them off postponed annotations.
_ARGUMENTS = 'SymInt num_clusters, str linkage, str backend, bool? check_finite=None'


@operator(
    'mmdet_atc::agglomerative_clustering',
    f'(Tensor features, {_ARGUMENTS}) -> Tensor',
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
    form = _form(features, backend)
    with torch.autocast(features.device.type, enabled=False):
        if form is plain and not _stays_on_device(features, backend):
            return plain.cluster_features(features.cpu(), num_clusters, linkage).to(features.device)
        return form.cluster_features(features, num_clusters, linkage)


@operator(
    'mmdet_atc::linkage_clustering',
    f'(Tensor distances, {_ARGUMENTS}) -> Tensor',
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
    if backend == 'sklearn':
        return sklearn_oracle.cluster_distances(distances, num_clusters, linkage)
    with torch.autocast(distances.device.type, enabled=False):
        if _stays_on_device(distances, backend):
            return plain.cluster_distances(distances, num_clusters, linkage)
        labels = plain.cluster_distances(distances.cpu(), num_clusters, linkage)
        return labels.to(distances.device)


@_features_op.register_fake
@_distances_op.register_fake
def _like_labels(x: Tensor, *_: int | str | bool | None) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=torch.int64)


def _stays_on_device(x: Tensor, backend: str) -> bool:
    return x.is_cuda and backend in ('auto', 'cuda')


def _limit(distances: Tensor, linkage: str) -> float:
    """What distances have to be below: average linkage adds up to N² of them in float64."""
    greatest = torch.finfo(distances.dtype).max
    if linkage != 'average':
        return greatest
    return min(greatest, torch.finfo(torch.float64).max / distances.shape[1] ** 2)


def _require_finite(x: Tensor, name: str, limit: float, backend: str, check: bool | None) -> None:
    if _stays_on_device(x, backend):
        require_finite_on_device(x, name, limit, check)
    else:
        require_finite(x, name, limit)


def _form(features: Tensor, backend: str) -> ModuleType:
    """The fastest form that can run."""
    if backend == 'sklearn':
        return sklearn_oracle
    on_device = _stays_on_device(features, backend)
    form = triton if on_device else cpp
    reason = triton.why_not(features.device) if on_device else cpp.why_not()
    if reason and not form.is_refused():
        _warn_once(f'{reason}: clustering runs as plain torch, exact but many times slower')
    return plain if reason else form


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def _check(x: Tensor, name: str, num_clusters: int, linkage: str, backend: str) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f'{name} must be a tensor, got {type(x).__name__}')
    if x.ndim != 3 or not x.shape[2] or not x.is_floating_point():
        raise ValueError(
            f'{name} must be a batch of float matrices, got {tuple(x.shape)} {x.dtype}'
        )
    if name == 'features' and x.shape[1] > MOST_TOKENS:
        raise ValueError(f'features must be of at most {MOST_TOKENS} tokens, got {x.shape[1]}')
    # A program for images of any size (torch.export) has a symbol here.
    is_symbol = isinstance(num_clusters, torch.SymInt)
    if not is_symbol and (not is_integer(num_clusters) or not 1 <= num_clusters <= x.shape[1]):
        raise ValueError(f'num_clusters must be an int in 1..{x.shape[1]}, got {num_clusters!r}')
    if linkage not in LINKAGES:
        raise ValueError(f'linkage must be one of {LINKAGES}, got {linkage!r}')
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if backend == 'cuda' and not x.is_cuda:
        raise ValueError(f"backend='cuda' needs CUDA tensors, got one on {x.device}")
