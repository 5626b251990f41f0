"""Whether clustering on a GPU gives the host's labels, and how long it takes."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, multiprocessing

from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.forms import plain

from .timing import as_graph, interleaved_times, synchronize


class Answer(NamedTuple):
    """What became of one case of :func:`checked`."""

    linkage: str
    case: str  #: of :func:`cases`; empty where there was no answer
    outcome: str  #: ``'equal'``, or what went wrong
    seconds: float  #: of the first call, compiling included

    @property
    def is_right(self) -> bool:
        return self.outcome == 'equal'


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
    """Labels of :func:`cases` on a device beside the host's."""
    for case, features, num_clusters in cases(keys):
        expected = agglomerative_clustering(features, num_clusters, linkage, backend='cpu')
        given = features.to(device)
        synchronize(given.device)
        start = time.perf_counter()
        found = agglomerative_clustering(given, num_clusters, linkage).cpu()
        seconds = time.perf_counter() - start
        wrong = (found != expected).any(1).sum().item()
        outcome = f'{wrong} of {len(found)} images differ' if wrong else 'equal'
        yield Answer(linkage, case, outcome, seconds)
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
    outcome = f'{wrong} of {len(found)} calls differ' if wrong else 'equal'
    return Answer(linkage, 'two streams at once', outcome, time.perf_counter() - start)


def _send(answers, compare: Callable, *args) -> None:
    for answer in compare(*args):
        answers.put(answer)
    answers.put(None)


def checked(
    keys: Tensor, linkage: str, device: str, limit: float = 90.0, compare: Callable = compared
) -> Iterator[Answer]:
    """:func:`compared` in a process of its own: a kernel that never ends must not be waited for.

    Args:
        keys (Tensor): ``(B, N, C)`` float32 on the host.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.
        device (str): Where to.
        limit (float): Seconds that a case may take, compiling included. Default: 90.
        compare (Callable): What the process runs. Default: :func:`compared`.

    Yields:
        Answer: One a case, up to the first that has none.
    """
    context = multiprocessing.get_context('spawn')
    answers = context.Queue()
    process = context.Process(
        target=_send, args=(answers, compare, keys, linkage, device), daemon=True
    )
    process.start()
    try:
        while answer := _next(answers, process, linkage, limit):
            yield answer
            if not answer.case:
                return
    finally:
        process.kill()
        process.join()


def _next(answers, process, linkage: str, limit: float) -> Answer | None:
    """The next answer, one without a case where there is none, None behind the last."""
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < limit:
        ended = not process.is_alive()  # asked first: its last answer may come meanwhile
        try:
            return answers.get(timeout=1)
        except queue.Empty:
            if ended:
                return Answer(linkage, '', 'the process ended', seconds)
    return Answer(linkage, '', f'no answer within {limit:g} s', seconds)


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


def median(milliseconds: list[float]) -> str:
    return f'{statistics.median(milliseconds):.3f}'
