"""Deformable attention against bilinear sampling written out."""

from __future__ import annotations

import math

import pytest
import torch

from mmdet_atc.layers import DeformableTarget, MSDeformAttn


def bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Value of a ``(h, w, d)`` map at a point in [0, 1], zero outside, cell centres at +0.5."""
    height, width, _ = level.shape
    column, row = x * width - 0.5, y * height - 0.5
    value = torch.zeros(level.shape[-1], dtype=level.dtype)
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                value += (1 - abs(row - i)) * (1 - abs(column - j)) * level[i, j]
    return value


def by_definition(attention, query, feature, target):
    """Deformable DETR, eq. 3, one query, head, level and point at a time."""
    heads, levels, points = attention.n_heads, attention.n_levels, attention.n_points
    batch, num_queries, _ = query.shape
    value = attention.value_proj(feature).reshape(batch, feature.shape[1], heads, -1)
    offsets = attention.sampling_offsets(query).reshape(
        batch, num_queries, heads, levels, points, 2
    )
    weights = attention.attention_weights(query).reshape(batch, num_queries, heads, -1).softmax(-1)
    weights = weights.reshape(batch, num_queries, heads, levels, points)
    out = torch.zeros(batch, num_queries, heads, value.shape[-1], dtype=query.dtype)
    for b in range(batch):
        for q in range(num_queries):
            for h in range(heads):
                start = 0
                for level, (height, width) in enumerate(target.shapes):
                    grid = value[b, start : start + height * width, h].reshape(height, width, -1)
                    start += height * width
                    for p in range(points):
                        dx, dy = offsets[b, q, h, level, p].tolist()
                        x, y = target.reference_points[q].tolist()
                        sample = bilinear(grid, x + dx / width, y + dy / height)
                        out[b, q, h] += weights[b, q, h, level, p] * sample
    return attention.output_proj(out.flatten(2))


@pytest.mark.parametrize('ratio', [1.0, 0.5])
def test_it_equals_the_definition(ratio):
    attention = MSDeformAttn(16, n_levels=2, n_heads=2, n_points=3, ratio=ratio).double()
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.5)
    torch.nn.init.normal_(attention.attention_weights.weight)
    shapes = ((4, 6), (2, 3))
    target = DeformableTarget.between(((3, 2),), shapes, torch.device('cpu'))
    query = torch.randn(2, 6, 16, dtype=torch.float64)
    feature = torch.randn(2, 30, 16, dtype=torch.float64)
    out = attention(query, feature, target)
    torch.testing.assert_close(
        out, by_definition(attention, query, feature, target), rtol=1e-5, atol=1e-6
    )  # reference points are float32


def test_reference_points_are_cell_centres():
    target = DeformableTarget.between(((1, 2), (2, 1)), ((2, 2),), torch.device('cpu'))
    centres = target.reference_points
    assert centres.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_bad_heads_are_refused():
    with pytest.raises(ValueError, match=r'deform_num_heads must divide .* = 12, got 5'):
        MSDeformAttn(24, n_heads=5, ratio=0.5)
