"""``torch.jit.trace``, as deployment tools call it: a trace is of one size."""

from __future__ import annotations

import io

import pytest
import torch

from mmdet_atc.backbones import ATCViTAdapter, SViTAdapter, ViTAdapter


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (ViTAdapter, dict()),
        (ViTAdapter, dict(add_vit_feature=False)),
        (ATCViTAdapter, dict(merging=dict(keep_rate=0.5))),
    ],
)
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_a_trace_gives_what_the_model_gives(kind, options):
    model = kind(embed_dim=48, num_heads=3, **options).eval()
    image, other = torch.rand(2, 1, 3, 64, 96).unbind(0)
    with torch.no_grad():
        traced = torch.jit.trace(model, image, check_trace=False)
        for x in (image, other):
            for got, wanted in zip(traced(x), model(x), strict=True):
                torch.testing.assert_close(got, wanted)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('kind', [ViTAdapter, ATCViTAdapter, SViTAdapter])
def test_the_old_onnx_exporter_names_the_new_one(kind):
    model = kind(embed_dim=48, num_heads=3).eval()
    with pytest.raises(RuntimeError, match=r'by tracing \(dynamo=False\).*torch\.export\.export'):
        torch.onnx.export(model, (torch.rand(1, 3, 64, 96),), io.BytesIO(), dynamo=False)
