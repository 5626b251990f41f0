"""Weights and images that are drawn, not stored: the recipe of the golden outputs."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def fill(model: nn.Module, seed: int) -> None:
    """Draw every tensor of the state dict from its name and ``seed``."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
            last = name.split('.')[-1]
            if tensor.ndim == 1 and last == 'weight':
                value = 1 + 0.1 * drawn
            elif last == 'bias':
                value = 0.02 * drawn
            elif 'qkv.weight' in name:
                value = drawn * (1.5 / math.sqrt(tensor.shape[1]))
            elif tensor.ndim >= 2 and last == 'weight':
                value = drawn / math.sqrt(tensor[0].numel())
            else:
                value = 0.1 * drawn
            tensor.copy_(value.to(tensor.dtype))


def images(seed: int, batch: int, side: int = 224) -> Tensor:
    """Normalised pictures of blobs and boxes, ``(B, 3, side, side)``."""
    pixels = np.stack([_picture(seed + k, side) for k in range(batch)]).astype(np.float64) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.tensor(pixels.transpose(0, 3, 1, 2).copy(), dtype=torch.float32)


def _picture(seed: int, side: int) -> np.ndarray:
    def draw(*key):
        text = '/'.join(map(str, (seed, *key)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], 'big')

    out = np.zeros((side, side, 3), np.int64)
    for step, weight in ((56, 6), (14, 2)):
        n = -(-side // step) + 1
        for c in range(3):
            grid = [[draw(step, c, i, j) % 256 for j in range(n)] for i in range(n)]
            g = np.array(grid, np.int64)
            p = np.arange(side)
            q, r = p // step, p % step
            top = g[q][:, q] * (step - r)[None] + g[q][:, q + 1] * r[None]
            low = g[q + 1][:, q] * (step - r)[None] + g[q + 1][:, q + 1] * r[None]
            out[..., c] += weight * (top * (step - r)[:, None] + low * r[:, None]) // (step * step)
    for k in range(5):
        h = [draw('box', k, m) for m in range(7)]
        y, x = h[0] % side, h[1] % side
        out[y : y + 16 + h[2] % 64, x : x + 16 + h[3] % 64] = [8 * (v % 256) for v in h[4:]]
    return (out // 8).astype(np.uint8)


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """``meta`` and the arrays of a golden file."""
    golden = dict(np.load(path, allow_pickle=False))
    return json.loads(str(golden.pop('meta'))), golden


def hooks_of(model: nn.Module) -> list:
    """What patching could leave behind: hooks and attributes of each module."""
    return [
        (len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()
    ]
