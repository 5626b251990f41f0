"""How well clusters respect ground-truth segments: the measures of superpixel benchmarks.

All take a table of overlaps, ``(K, S)`` int: pixels that cluster k shares with segment s. Column 0
is the background, the others are objects; void pixels are left out. Clusters need not be connected.
A measure is NaN where there are no pixels that it counts.

- Purity, which superpixel papers call achievable segmentation accuracy: M.-Y. Liu, O. Tuzel,
  S. Ramalingam, R. Chellappa, *Entropy rate superpixel segmentation*, CVPR 2011.
- Under-segmentation error: P. Neubert, P. Protzel, *Superpixel benchmark and comparison*, Forum
  Bildverarbeitung 2012; of the variants it is the one without a free parameter, see D. Stutz,
  A. Hermans, B. Leibe, *Superpixels: an evaluation of the state-of-the-art*, CVIU 2018.

The background of a set like COCO is most of the picture, and one segment whatever it shows, so both
have a variant that counts pixels of objects only.
"""

from __future__ import annotations

import numpy as np


def purity(overlap: np.ndarray) -> float:
    """Share of the pixels that keep their segment if each cluster takes its majority's.

    ``sum_k max_s |k & s| / sum_k |k|``, in (0, 1]; 1 is best.
    """
    return _ratio(overlap.max(axis=1).sum(), overlap.sum())


def object_purity(overlap: np.ndarray) -> float:
    """Share of the objects' pixels that lie in clusters whose majority is that object.

    A segment that ties for the majority has it too. 1 is best; what is lost has been given to the
    background or to another object. In [0, 1]; NaN without objects.
    """
    objects = overlap[:, 1:]
    won = objects == overlap.max(axis=1, keepdims=True)
    return _ratio(objects[won].sum(), objects.sum())


def under_segmentation_error(overlap: np.ndarray) -> float:
    """How far clusters leak over the borders of segments, by Neubert and Protzel.

    ``sum_s sum_k min(|k & s|, |k \\ s|) / sum_k |k|``: of each cluster that a segment cuts, the
    smaller part counts, once per segment. In [0, 1]; 0 is best; a cluster of two halves counts
    twice its half.
    """
    return _ratio(_leaks(overlap).sum(), overlap.sum())


def object_under_segmentation_error(overlap: np.ndarray) -> float:
    """:func:`under_segmentation_error` summed over objects only, over the objects' pixels."""
    return _ratio(_leaks(overlap)[:, 1:].sum(), overlap[:, 1:].sum())


#: By the names that reports use.
MEASURES = dict(
    purity=purity,
    object_purity=object_purity,
    under_segmentation_error=under_segmentation_error,
    object_under_segmentation_error=object_under_segmentation_error,
)


def _leaks(overlap: np.ndarray) -> np.ndarray:
    return np.minimum(overlap, overlap.sum(axis=1, keepdims=True) - overlap)


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float('nan')
