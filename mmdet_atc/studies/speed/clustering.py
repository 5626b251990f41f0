"""Times of clustering: ours beside scikit-learn, SciPy, fastcluster, cuML and cuhc.

Features are the keys of a trained ViT from a file; or 16x16 patches of real images, mean-free per
channel, projected to 64 channels by one fixed random matrix. Every method gets the same features;
the methods take turns within a repeat, so that drifts of the machine hit all of them.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import logging
import os
import statistics
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.utils import track_iter_progress

from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.forms import cpp
from mmdet_atc.visualization import find_images

from .memory import PeakMemory
from .timing import interleaved_times

#: Patch grids of the token counts that are asked for.
GRIDS = {196: (14, 14), 1024: (32, 32), 2100: (42, 50), 4200: (50, 84), 9216: (96, 96)}


def patch_features(paths: list[Path], grid: tuple[int, int]) -> torch.Tensor:
    """Projected patches of images resized to a grid, ``(B, N, 64)`` float32."""
    height, width = 16 * grid[0], 16 * grid[1]
    batch = []
    for path in paths:
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f'{path} is no image that can be read')
        image = cv2.resize(image, (width, height)).astype(np.float32)
        batch.append(torch.from_numpy(image).permute(2, 0, 1))
    patches = F.unfold(torch.stack(batch), 16, stride=16).transpose(1, 2)
    patches = patches - patches.mean(dim=(0, 1))
    projection = torch.randn(patches.shape[-1], 64, generator=torch.Generator().manual_seed(0))
    return patches @ projection


def load_keys(path: str | Path) -> torch.Tensor:
    """The array ``keys`` of an npz, ``(images, blocks, tokens, channels)``.

    Raises:
        OSError: If there is no such file.
        ValueError: If it has no such array.
    """
    try:
        keys = np.load(path)['keys']
    except (ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no npz with an array 'keys'") from error
    if keys.ndim != 4:
        raise ValueError(
            f'keys in {path} must be images x blocks x tokens x channels, got {keys.shape}'
        )
    return torch.from_numpy(keys)


def key_features(keys: torch.Tensor, batch: int, size: int) -> torch.Tensor:
    """Every so many of the keys of a block, ``(B, size, channels)`` float32."""
    if batch > len(keys) or size > keys.shape[1]:
        raise ValueError(
            f'keys are of {len(keys)} images, {keys.shape[1]} tokens; {batch} of {size} are wanted'
        )
    return keys[:batch, :: keys.shape[1] // size][:, :size].float()


def distances_of(features: torch.Tensor) -> torch.Tensor:
    directions = F.normalize(features, dim=-1)
    return 1 - directions @ directions.transpose(1, 2)


def with_sklearn(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    """As the authors call it."""
    from sklearn.cluster import AgglomerativeClustering

    for matrix in distances_of(features).cpu().numpy():
        AgglomerativeClustering(num_clusters, metric='precomputed', linkage=linkage).fit(matrix)


def with_tree(
    features: torch.Tensor, num_clusters: int, linkage: str, module: str, **options: bool
) -> None:
    """By the whole tree of a module that has SciPy's function."""
    from scipy.cluster import hierarchy

    linkage_of = importlib.import_module(module).linkage
    # SciPy refuses the tiny negative distances that rounding gives equal patches.
    for matrix in distances_of(features).clamp_(min=0).cpu().numpy():
        upper = matrix[np.triu_indices(len(matrix), k=1)].astype(np.float64)
        hierarchy.fcluster(linkage_of(upper, linkage, **options), num_clusters, 'maxclust')


def ours_of_cuda(
    features: torch.Tensor, num_clusters: int, linkage: str, backend: str, triton: str = '1'
) -> None:
    """On the device, or in C++ with the copies to the host and back."""
    if not features.is_cuda:
        raise ValueError('for CUDA devices')
    with mock.patch.dict(os.environ, {'MMDET_ATC_TRITON': triton}):
        agglomerative_clustering(features, num_clusters, linkage, backend)


def with_cuhc(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    """On the GPU, the whole tree."""
    import cuhc
    from scipy.cluster import hierarchy

    for image in F.normalize(features, dim=-1).cpu().numpy():
        hierarchy.fcluster(cuhc.linkage(image, linkage, 'cosine'), num_clusters, 'maxclust')


def with_cuml(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    from cuml.cluster import AgglomerativeClustering

    if linkage != 'single':
        raise ValueError('cuML has single linkage only')
    for image in features:
        AgglomerativeClustering(num_clusters, metric='cosine', linkage=linkage).fit(image)


CLUSTERERS: dict[str, Callable] = {
    'ours': agglomerative_clustering,
    'ours, Triton': functools.partial(ours_of_cuda, backend='cuda'),
    'ours, torch': functools.partial(ours_of_cuda, backend='cuda', triton='0'),
    'ours, C++ on the host': functools.partial(ours_of_cuda, backend='cpu'),
    'scikit-learn': with_sklearn,
    'SciPy': functools.partial(with_tree, module='scipy.cluster.hierarchy'),
    'fastcluster': functools.partial(with_tree, module='fastcluster', preserve_input=False),
    'cuML': with_cuml,
    'cuhc': with_cuhc,
}


def measure(
    source: str | Path,
    block: int | None,
    sizes: Sequence[int],
    batches: Sequence[int],
    linkages: Sequence[str],
    keep_rates: Sequence[float],
    methods: Sequence[str],
    device: torch.device,
    repeats: int,
) -> list[dict]:
    """Time every method on every case.

    Args:
        source (str | Path): Folder of images, or file of keys (see :func:`load_keys`).
        block (int | None): Block of the file; None for images.
        sizes (Sequence[int]): Numbers of tokens; for images of :data:`GRIDS`.
        batches (Sequence[int]): Numbers of images.
        linkages (Sequence[str]): Linkages.
        keep_rates (Sequence[float]): Shares of the tokens that are kept.
        methods (Sequence[str]): Names in :data:`CLUSTERERS`; those that cannot run here are left
            out with a line in the log that says why.
        device (torch.device): Where the features are; peers copy them to the host.
        repeats (int): Measured calls of each.

    Returns:
        list[dict]: ``method``, ``tokens``, ``batch``, ``linkage``, ``keep_rate``, ``median_s``,
        ``min_s``, ``max_s``, ``seconds`` of each call, ``peak_mib``, and the ``near_pairs`` of
        tokens that C++ looks at, of each image.

    Raises:
        OSError, ValueError: If the source cannot be read.
        ValueError: If it has too few images or tokens, or none of the methods can run.
    """
    if block is None:
        paths = find_images([str(source)])
        if len(paths) < max(batches):
            raise ValueError(f'{source} has {len(paths)} images, a batch {max(batches)}')
    else:
        keys = load_keys(source)
        if not 0 <= block < keys.shape[1]:
            raise ValueError(f'{source} has {keys.shape[1]} blocks, counted from 0, and no {block}')
    names = _available(methods, device)
    cases = list(itertools.product(sizes, batches, linkages, keep_rates))
    rows = []
    for size, batch, linkage, rate in track_iter_progress(cases, file=sys.stderr):
        if block is None:
            features = patch_features(paths[:batch], GRIDS[size]).to(device)
        else:
            features = key_features(keys[:, block], batch, size).to(device)
        near_pairs = None
        if cpp.is_available():
            near_pairs = cpp.near_pairs(features, int(rate * size), linkage)[:, 1].tolist()
        functions = {
            name: functools.partial(CLUSTERERS[name], features, int(rate * size), linkage)
            for name in names
        }
        times = interleaved_times(functions, repeats, device)
        for name in names:
            with PeakMemory(device) as memory:
                functions[name]()
            rows.append(
                dict(
                    method=name,
                    tokens=size,
                    batch=batch,
                    linkage=linkage,
                    keep_rate=rate,
                    median_s=statistics.median(times[name]),
                    min_s=min(times[name]),
                    max_s=max(times[name]),
                    seconds=times[name],
                    peak_mib=memory.mebibytes,
                    near_pairs=near_pairs,
                )
            )
    return rows


def _available(names: Sequence[str], device: torch.device) -> list[str]:
    found = []
    for name in names:
        try:
            CLUSTERERS[name](torch.randn(1, 8, 4, device=device), 4, 'single')
            found.append(name)
        except (ImportError, ValueError) as error:
            print_log(f'{name}: left out: {error}', 'current', logging.WARNING)
    if not found:
        raise ValueError(f'none of {", ".join(names)} can be run here')
    return found
