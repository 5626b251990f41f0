"""Whether clustering on a GPU gives the host's labels, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.forms import plain

from .timing import as_graph, interleaved_times, synchronize


class Answer(NamedTuple):
    """What became of one case of :func:`compared`."""

    case: str
    wrong: str  #: what differs, empty where nothing does
    seconds: float  #: of the first call, compiling included


def cases(keys: Tensor) -> Iterator[tuple[str, Tensor, int]]:
    """Trained keys, and input that takes the rarer ways through the kernels.

    Args:
        keys (Tensor): ``(B, N, C)``, of a trained ViT.

    Yields:
        tuple[str, Tensor, int]: What it is, features ``(B', N', C)``, number of clusters.
    """
    batch, tokens, channels = keys.shape
    for rate in (0.5, 0.9, 0.25):
        yield f'trained keys, r={rate}', keys, int(rate * tokens)
    yield 'one image, r=0.5', keys[:1], tokens // 2
    yield 'half of the tokens, r=0.5', keys[:, ::2], tokens // 4
    yield 'to one cluster', keys[:2, ::4], 1
    yield 'ties', (keys[:2] * 2).round(), tokens // 4
    yield 'every token 16 times', keys[:2, ::16].repeat_interleave(16, 1), tokens // 20
    # More near pairs than the lists hold.
    crowds = keys[:2, :: max(1, tokens // 40)].repeat_interleave(tokens // 40, 1)
    noise = torch.randn(crowds.shape, generator=torch.Generator().manual_seed(0))
    crowds = crowds + 1e-3 * noise
    yield 'crowds', crowds, crowds.shape[1] // 4
    yield 'flat, to one cluster', torch.ones(2, tokens, channels), 1
    yield 'two tokens', keys[:, :2], 1
    yield '64 images', keys[:, ::16].repeat(-(-64 // batch), 1, 1)[:64], max(1, tokens // 32)


def compared(keys: Tensor, linkage: str, device: str) -> Iterator[Answer]:
    """Labels of :func:`cases` on a device beside the host's, and of calls that run side by side.

    Args:
        keys (Tensor): ``(B, N, C)`` float32 on the host.
        linkage (str): Linkage.
        device (str): Where to.
    """
    for case, features, num_clusters in cases(keys):
        expected = agglomerative_clustering(features, num_clusters, linkage, backend='cpu')
        given = features.to(device)
        synchronize(given.device)
        start = time.perf_counter()
        found = agglomerative_clustering(given, num_clusters, linkage).cpu()
        seconds = time.perf_counter() - start
        wrong = (found != expected).any(1).sum().item()
        yield Answer(case, f'{wrong} of {len(found)} images differ' if wrong else '', seconds)
    if given.is_cuda:
        yield _on_two_streams(keys.to(device), linkage)


def _on_two_streams(keys: Tensor, linkage: str, calls: int = 20) -> Answer:
    """Calls that run side by side give what each gives alone."""
    start = time.perf_counter()
    parts = keys, keys.flip(0)[:, ::2].contiguous()
    num_clusters = [part.shape[1] // 2 for part in parts]
    alone = [agglomerative_clustering(*each, linkage) for each in zip(parts, num_clusters)]
    streams = [torch.cuda.Stream(keys.device) for _ in parts]
    torch.cuda.synchronize(keys.device)
    found = []
    for _ in range(calls):
        for index, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                labels = agglomerative_clustering(parts[index], num_clusters[index], linkage)
                found.append((labels, alone[index]))
    torch.cuda.synchronize(keys.device)
    wrong = sum(not torch.equal(*pair) for pair in found)
    text = f'{wrong} of {len(found)} calls differ' if wrong else ''
    return Answer('two streams at once', text, time.perf_counter() - start)


def times(keys: Tensor, linkage: str, repeats: int) -> Iterator[tuple[str, list[float]]]:
    """Milliseconds an image, call to labels.

    Args:
        keys (Tensor): ``(B, L, N, C)`` on the device: of L merge blocks.
        linkage (str): Linkage.
        repeats (int): Measured calls.

    Yields:
        tuple[str, list[float]]: What was timed, and each call's time.
    """
    first = keys[:, 0]
    batch, tokens = first.shape[:2]

    def call(features: Tensor, num_clusters: int) -> Callable[[], Tensor]:
        return lambda: agglomerative_clustering(features, num_clusters, linkage)

    def forward() -> None:
        for block in range(keys.shape[1]):
            own = keys[:, block, :: 2**block]
            agglomerative_clustering(own, own.shape[1] // 2, linkage)

    functions = {
        **{f'batch {batch}, r={r}': call(first, int(r * tokens)) for r in (0.5, 0.25, 0.9)},
        f'batch {batch}, the {keys.shape[1]} merges of a forward, r=0.5': forward,
        'batch 1, r=0.5': call(first[:1].clone(), tokens // 2),
    }
    if keys.is_cuda:
        functions['batch 1, r=0.5, in a CUDA graph'] = as_graph(functions['batch 1, r=0.5'])
    flat = torch.ones_like(first[:1])
    functions['a flat image, K=1'] = call(flat, 1)
    functions['a flat image, K=1, plain torch'] = lambda: plain.cluster_features(flat, 1, linkage)
    for name, seconds in interleaved_times(functions, repeats, keys.device, warm_up=2).items():
        images = batch if name.startswith(f'batch {batch}') else 1
        yield name, [1e3 * second / images for second in seconds]
