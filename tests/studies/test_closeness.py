"""Closeness is a mean cosine with the dense features, and the tool writes what it found."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import build_merger, keep_rate_plan
from mmdet_atc.studies.closeness import COMPARED, closeness, closeness_table, plot_closeness


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=64, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0
    ).eval()


def test_every_method_is_compared_and_the_model_left_alone(tmp_path):
    model, images = vit(), [torch.randn(1, 3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        dense = model(images[0])
    rows = list(closeness(model, images, keep_rates=(0.5, 1.0), blocks=(0, 1)))
    assert [row.method for row in rows[::2]] == list(COMPARED)
    for half, whole in zip(rows[::2], rows[1::2], strict=True):
        assert whole.mean == 1 or abs(whole.mean - 1) < 1e-5
        assert half.mean < whole.mean
        assert half.clusters == (17 if half.method == 'evit' else 16)
        assert len(half.cosines) == 2
    with torch.no_grad():
        assert torch.equal(model(images[0]), dense)
    table = closeness_table(rows)
    assert table.startswith('| method | r=0.5 | r=1.0 |')
    assert len(table.splitlines()) == 2 + len(COMPARED)
    plot_closeness(rows, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 1000


def test_the_mean_is_over_patches():
    model, image = vit(), torch.randn(1, 3, 64, 64)
    (row,) = closeness(model, [image], ['average'], [0.5], (1,))
    with torch.no_grad():
        dense = model.forward_features(image)[:, 1:]
        apply_merging(model, COMPARED['average'], keep_rate_plan(0.5, (1,)))
        merged = model.forward_features(image)[:, 1:]
    assert abs(row.mean - F.cosine_similarity(merged, dense, dim=-1).mean().item()) < 1e-6


def test_random_clusters_are_never_empty():
    labels = build_merger(COMPARED['random']).assign(torch.randn(3, 20, 4), 7)
    assert all(len(row.unique()) == 7 for row in labels)


@pytest.mark.parametrize(
    ('name', 'weights', 'message'),
    [
        ('test_vitt', None, 'model test_vitt: Unknown model'),
        ('test_resnet', None, 'model test_resnet: .* unexpected keyword'),
        ('test_vit', 'missing.pth', 'no checkpoint at .*missing.pth'),
        ('test_vit', 'other.pth', 'other.pth does not fit the model'),
    ],
)
def test_models_and_weights_that_are_none(tmp_path, run_tool, name, weights, message):
    Image.new('RGB', (64, 64)).save(tmp_path / 'a.png')
    torch.save(vit().state_dict(), tmp_path / 'other.pth')
    options = ('--weights', tmp_path / weights) if weights else ()
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        run_tool('tools/analysis_tools/feature_closeness.py', tmp_path, name, *options)
