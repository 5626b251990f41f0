"""Accuracy and speed of a classifier on a data set."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from timm.utils import accuracy
from torch import Tensor, nn

from .metrics import mean_average_precision


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Args:
        metric (str): ``'top-1'`` or ``'mAP'``.
        value (float): In percent.
        images (int): How many.
        images_per_second (float): Of the forward passes after the first batch, or of the only one.
    """

    metric: str
    value: float
    images: int
    images_per_second: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    multi_label: bool = False,
    amp: bool = False,
) -> Evaluation:
    """Run a model over batches of images and labels.

    Args:
        model (nn.Module): A classifier, patched or not; it is put into evaluation.
        batches (Iterable[tuple[Tensor, Tensor]]): ``(B, 3, H, W)`` and ``(B,)`` classes, or
            ``(B, C)`` zeros and ones.
        device (torch.device): Where the model is.
        multi_label (bool): Whether the metric is mAP rather than top-1. Default: False.
        amp (bool): Whether to run in float16 (GPU) or bfloat16 (CPU). Default: False.

    Raises:
        ValueError: If there are no images.
    """
    model.eval()
    outputs, labels, seconds, counts = [], [], [], []
    for batch, target in batches:
        batch = batch.to(device, non_blocking=True)
        _wait(device)
        start = time.perf_counter()
        with torch.autocast(device.type, enabled=amp):
            logits = model(batch)
        _wait(device)
        seconds.append(time.perf_counter() - start)
        counts.append(len(batch))
        outputs.append(logits.float().cpu())
        labels.append(target)
    if not counts:
        raise ValueError('there are no images to evaluate on')
    logits, target = torch.cat(outputs), torch.cat(labels)
    speed = sum(counts[1:] or counts) / sum(seconds[1:] or seconds)
    if multi_label:
        return Evaluation('mAP', mean_average_precision(logits, target), sum(counts), speed)
    return Evaluation('top-1', accuracy(logits, target)[0].item(), sum(counts), speed)


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
