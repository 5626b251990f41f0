"""Accuracy of classifiers of several labels; that of one label is timm's."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """Mean over classes of the average precision, in percent.

    Average precision is the mean, over a class's images, of the precision among all images that
    score at least as high. Classes without an image are left out.

    Args:
        scores (Tensor): ``(N, C)``, higher is likelier.
        targets (Tensor): ``(N, C)``, 1 where an image has a class and else 0.
    """
    order = scores.argsort(dim=0, descending=True, stable=True)
    hits = targets.double().gather(0, order)
    ranks = torch.arange(1, len(scores) + 1, device=scores.device, dtype=torch.float64)
    precision = hits.cumsum(dim=0) / ranks.unsqueeze(1)
    totals = hits.sum(dim=0)
    seen = totals > 0
    return 100 * ((precision * hits).sum(dim=0)[seen] / totals[seen]).mean().item()
