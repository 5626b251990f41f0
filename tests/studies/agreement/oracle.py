"""The measures again, from their definitions, with sets of pixels and no tables."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

Pixels = frozenset


def parts(index: np.ndarray, skip: int | None = None) -> dict[int, Pixels]:
    """Pixels of each value of a map."""
    found: dict[int, set] = {}
    for place, value in np.ndenumerate(index):
        if value != skip:
            found.setdefault(int(value), set()).add(place)
    return {value: frozenset(places) for value, places in found.items()}


def measures(segments: np.ndarray, clusters: np.ndarray) -> dict[str, Fraction | None]:
    """All four, of two maps of one size; segments: -1 void, 0 background, 1.. objects."""
    truth = parts(segments, skip=-1)
    valid = frozenset().union(*truth.values()) if truth else frozenset()
    found = [cluster & valid for cluster in parts(clusters).values()]
    objects = {s: pixels for s, pixels in truth.items() if s > 0}
    in_objects = sum(map(len, objects.values()))

    def share(part: int, whole: int) -> Fraction | None:
        return Fraction(part, whole) if whole else None

    def most(cluster: Pixels) -> int:
        return max(len(cluster & pixels) for pixels in truth.values())

    def leak(pixels: Pixels) -> int:
        return sum(min(len(c & pixels), len(c - pixels)) for c in found if c & pixels)

    won = sum(
        len(cluster & pixels)
        for cluster in found
        for pixels in objects.values()
        if len(cluster & pixels) == most(cluster)
    )
    return dict(
        purity=share(sum(most(c) for c in found if c), len(valid)),
        object_purity=share(won, in_objects),
        under_segmentation_error=share(sum(map(leak, truth.values())), len(valid)),
        object_under_segmentation_error=share(sum(map(leak, objects.values())), in_objects),
    )
