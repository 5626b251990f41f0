#!/usr/bin/env python
"""Time clustering and its peers side by side: ``benchmark_clustering.py --help``.

Features are the keys of a trained ViT (``--features``), or 16x16 patches of real images, mean-free
per channel, projected to 64 channels by one fixed random matrix. Every method gets the same
features; the methods take turns within a repeat, so that drifts of the machine hit all of them.
"""

import argparse
import csv
import functools
import itertools
import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.utils import track_iter_progress
from torchvision.datasets.folder import IMG_EXTENSIONS

from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.api import LINKAGES
from mmdet_atc.clustering.forms import cpp
from mmdet_atc.studies.speed import PeakMemory, interleaved_times

#: Patch grids of the token counts that are asked for.
GRIDS = {196: (14, 14), 1024: (32, 32), 2100: (42, 50), 4200: (50, 84), 9216: (96, 96)}


def patch_features(paths: list[Path], grid: tuple[int, int]) -> torch.Tensor:
    """Projected patches of images resized to a grid, ``(B, N, 64)`` float32."""
    height, width = 16 * grid[0], 16 * grid[1]
    batch = []
    for path in paths:
        image = cv2.imread(str(path))
        if image is None:
            sys.exit(f'error: {path} is no image that can be read')
        image = cv2.resize(image, (width, height)).astype(np.float32)
        batch.append(torch.from_numpy(image).permute(2, 0, 1))
    patches = F.unfold(torch.stack(batch), 16, stride=16).transpose(1, 2)
    patches = patches - patches.mean(dim=(0, 1))
    projection = torch.randn(patches.shape[-1], 64, generator=torch.Generator().manual_seed(0))
    return patches @ projection


def key_features(path: Path, block: int, size: int) -> torch.Tensor:
    """Every so many of a block's keys, ``(images, size, channels)`` float32."""
    keys = torch.from_numpy(np.load(path)['keys'])[:, block]
    if size > keys.shape[1]:
        sys.exit(f'error: {path} has {keys.shape[1]} tokens an image, {size} are asked for')
    return keys[:, :: keys.shape[1] // size][:, :size].float()


def distances_of(features: torch.Tensor) -> torch.Tensor:
    directions = F.normalize(features, dim=-1)
    # SciPy refuses the tiny negative distances that rounding gives equal patches.
    return (1 - directions @ directions.transpose(1, 2)).clamp_(min=0)


def with_sklearn(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    """As the authors call it."""
    from sklearn.cluster import AgglomerativeClustering

    directions = F.normalize(features, dim=-1)
    for matrix in (1 - directions @ directions.transpose(1, 2)).cpu().numpy():
        AgglomerativeClustering(num_clusters, metric='precomputed', linkage=linkage).fit(matrix)


def with_scipy(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    from scipy.cluster import hierarchy

    for matrix in distances_of(features).cpu().numpy():
        upper = matrix[np.triu_indices(len(matrix), k=1)]
        tree = hierarchy.linkage(upper, linkage)
        hierarchy.fcluster(tree, num_clusters, 'maxclust')


def with_fastcluster(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    import fastcluster
    from scipy.cluster import hierarchy

    for matrix in distances_of(features).cpu().numpy():
        upper = matrix[np.triu_indices(len(matrix), k=1)].astype(np.float64)
        tree = fastcluster.linkage(upper, linkage, preserve_input=False)
        hierarchy.fcluster(tree, num_clusters, 'maxclust')


def with_cuhc(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    """On the GPU, the whole tree."""
    import cuhc
    from scipy.cluster import hierarchy

    for image in F.normalize(features, dim=-1).cpu().numpy():
        hierarchy.fcluster(cuhc.linkage(image, linkage, 'cosine'), num_clusters, 'maxclust')


def ours(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    agglomerative_clustering(features, num_clusters, linkage)


def ours_on_host(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    """C++, with the copies to the host and back."""
    _require_cuda(features)
    agglomerative_clustering(features, num_clusters, linkage, backend='cpu')


def ours_on_device(features: torch.Tensor, num_clusters: int, linkage: str, triton: str) -> None:
    _require_cuda(features)
    with mock.patch.dict(os.environ, {'MMDET_ATC_TRITON': triton}):
        agglomerative_clustering(features, num_clusters, linkage, backend='cuda')


def ours_in_torch(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    if features.is_cuda:
        raise ValueError("for the host; on a device it is 'ours, torch'")
    with mock.patch.dict(os.environ, {'MMDET_ATC_NATIVE': '0'}):
        agglomerative_clustering(features, num_clusters, linkage)


def _require_cuda(features: torch.Tensor) -> None:
    if not features.is_cuda:
        raise ValueError('for CUDA devices')


def with_cuml(features: torch.Tensor, num_clusters: int, linkage: str) -> None:
    from cuml.cluster import AgglomerativeClustering

    if linkage != 'single':
        raise ValueError('cuML has single linkage only')
    for image in features:
        AgglomerativeClustering(num_clusters, metric='cosine', linkage=linkage).fit(image)


METHODS: dict[str, Callable] = {
    'ours': ours,
    'ours, Triton': functools.partial(ours_on_device, triton='1'),
    'ours, torch': functools.partial(ours_on_device, triton='0'),
    'ours, C++ on the host': ours_on_host,
    'ours, torch on the host': ours_in_torch,
    'scikit-learn': with_sklearn,
    'SciPy': with_scipy,
    'fastcluster': with_fastcluster,
    'cuML': with_cuml,
    'cuhc': with_cuhc,
}


def available(names: list[str], device: torch.device) -> list[str]:
    found = []
    for name in names:
        try:
            METHODS[name](torch.randn(1, 8, 4, device=device), 4, 'single')
            found.append(name)
        except ImportError:
            print(f'{name}: not installed, left out', file=sys.stderr)
        except ValueError as error:
            print(f'{name}: left out: {error}', file=sys.stderr)
    return found


def measure(args: argparse.Namespace) -> list[dict]:
    try:
        files = [] if args.features else sorted(Path(args.images).iterdir())
    except OSError as error:
        sys.exit(f'error: {error}')
    paths = [path for path in files if path.suffix.lower() in IMG_EXTENSIONS]
    device = torch.device(args.device)
    names = available(args.methods, device)
    cases = [
        (size, batch, linkage, rate)
        for size in args.sizes
        for batch in args.batches
        for linkage in args.linkages
        for rate in args.keep_rates
    ]
    if not args.features and len(paths) < max(args.batches):
        sys.exit(f'error: {args.images} has {len(paths)} images, a batch {max(args.batches)}')
    if not names:
        sys.exit(f'error: none of {", ".join(args.methods)} can be run here')
    rows = []
    for size, batch, linkage, rate in track_iter_progress(cases, file=sys.stderr):
        if args.features:
            features = key_features(args.features, args.block, size)[args.first :][:batch]
        else:
            features = patch_features(paths[:batch], GRIDS[size])
        features = features.to(device)
        pairs = None
        if cpp.is_available():
            pairs = cpp.near_pairs(features, int(rate * size), linkage)[:, 1].tolist()
        functions = {
            name: functools.partial(METHODS[name], features, int(rate * size), linkage)
            for name in names
        }
        times = interleaved_times(functions, args.repeats, device)
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
                    peak_mib=memory.mebibytes,
                    near_pairs=pairs,
                )
            )
    return rows


def as_table(rows: list[dict]) -> str:
    """Markdown: milliseconds (median), how many times faster the first method is, peak memory.

    The spread, slowest less fastest call over the median, is given where it is above a tenth.
    """
    names = list(dict.fromkeys(row['method'] for row in rows))
    head = ['tokens', 'batch', 'linkage', 'keep rate']
    head += [f'{name}, ms' for name in names] + [f'{name}, MiB' for name in names]
    lines = [_line(head), '|' + ' --- |' * len(head)]
    for index in range(0, len(rows), len(names)):
        group = rows[index : index + len(names)]
        first = group[0]
        cells = [str(first[key]) for key in ('tokens', 'batch', 'linkage', 'keep_rate')]
        for row in group:
            cell = f'{row["median_s"] * 1e3:.1f}'
            if row is not first:
                cell += f' ({row["median_s"] / first["median_s"]:.1f}x)'
            spread = (row['max_s'] - row['min_s']) / row['median_s']
            cells.append(cell if spread <= 0.1 else f'{cell} ±{spread / 2:.0%}')
        cells += ['-' if r['peak_mib'] is None else f'{r["peak_mib"]:.0f}' for r in group]
        lines.append(_line(cells))
    return '\n'.join(lines)


def growth_table(rows: list[dict]) -> str:
    """Markdown: the power of N with which time grows between the two largest sizes."""
    lines = [
        _line(['method', 'batch', 'linkage', 'keep rate', 'time grows as']),
        '|' + ' --- |' * 5,
    ]
    cases = dict.fromkeys(
        (row['method'], row['batch'], row['linkage'], row['keep_rate']) for row in rows
    )
    for case in cases:
        keys = ('method', 'batch', 'linkage', 'keep_rate')
        same = [row for row in rows if tuple(row[key] for key in keys) == case]
        small, large = sorted(same, key=lambda row: row['tokens'])[-2:]
        power = math.log(large['median_s'] / small['median_s'])
        power /= math.log(large['tokens'] / small['tokens'])
        lines.append(_line([*map(str, case), f'N^{power:.2f}']))
    return '\n'.join(lines)


def _line(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def plot(rows: list[dict], path: Path) -> None:
    """Seconds over tokens, one line per method, both axes logarithmic.

    One column of axes per linkage, one row per batch and keep rate.
    """
    from matplotlib.figure import Figure

    linkages = list(dict.fromkeys(row['linkage'] for row in rows))
    settings = list(dict.fromkeys((row['batch'], row['keep_rate']) for row in rows))
    figure = Figure(figsize=(4.5 * len(linkages), 4 * len(settings)), layout='constrained')
    grid = figure.subplots(len(settings), len(linkages), squeeze=False)
    for axes, (setting, linkage) in zip(grid.flat, itertools.product(settings, linkages)):
        batch, rate = setting
        for name in dict.fromkeys(row['method'] for row in rows):
            chosen = [
                row
                for row in rows
                if (row['method'], row['linkage']) == (name, linkage)
                and (row['batch'], row['keep_rate']) == setting
            ]
            axes.loglog(
                [r['tokens'] for r in chosen], [r['median_s'] for r in chosen], 'o-', label=name
            )
        axes.set(
            title=f'{linkage} linkage, batch {batch}, keep rate {rate}',
            xlabel='tokens',
            ylabel='seconds (median)',
        )
        axes.grid(True, which='both', alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('images', nargs='?', help='folder of images')
    parser.add_argument(
        '--features', type=Path, help='npz with keys (images, blocks, tokens, channels) instead'
    )
    parser.add_argument('--block', type=int, default=0, help='which of the blocks of --features')
    parser.add_argument('--first', type=int, default=0, help='first image of --features to take')
    parser.add_argument('--sizes', type=int, nargs='+', default=list(GRIDS))
    parser.add_argument('--batches', type=int, nargs='+', default=[1])
    parser.add_argument('--linkages', nargs='+', default=LINKAGES, choices=LINKAGES)
    parser.add_argument('--keep-rates', type=float, nargs='+', default=[0.5])
    parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=list(METHODS))
    parser.add_argument('--device', default='cpu', help='cpu or cuda; peers copy to the host')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/benchmark_clustering'))
    args = parser.parse_args()
    if (args.images is None) == (args.features is None):
        parser.error('give a folder of images or --features')
    if not args.features and not GRIDS.keys() >= set(args.sizes):
        parser.error(f'--sizes of images must be of {list(GRIDS)}')
    for rate in args.keep_rates:
        if not 1 / min(args.sizes) <= rate <= 1:
            parser.error(f'--keep-rates must leave a token and be at most 1, got {rate:g}')
    args.out_dir.mkdir(parents=True, exist_ok=True)  # or nothing is begun
    rows = measure(args)
    machine = dict(
        processor=platform.processor(),
        device=torch.cuda.get_device_name() if args.device != 'cpu' else 'cpu',
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    (args.out_dir / 'times.json').write_text(json.dumps(dict(machine=machine, rows=rows), indent=1))
    with (args.out_dir / 'times.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    tables = as_table(rows)
    if len(set(args.sizes)) > 1:
        tables += '\n\n' + growth_table(rows)
    (args.out_dir / 'times.md').write_text(tables + '\n')
    plot(rows, args.out_dir / 'times.png')
    print('\n' + tables)


if __name__ == '__main__':
    main()
