"""How many kernels a forward pass in half precision starts on a GPU, counted without one.

A launch is an operation that reads or writes tensors: not a view, an allocation or a question.
"""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.backbones import ATCViTAdapter

from .launches import counted, pretended_gpu

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 10), reason='torch 2.6 cannot pretend a GPU without one, 2.10 can'
)


def small(merging=None, **kwargs):
    return ATCViTAdapter(embed_dim=384, num_heads=6, merging=merging, **kwargs)


@pytest.mark.parametrize('layer_scale', [True, False])
def test_a_dense_forward_pass_is_at_most_260_launches(layer_scale):
    launches = counted(lambda: small(layer_scale=layer_scale), 800, 1344)
    assert sum(launches.counts.values()) <= 260, launches.counts.most_common()
    # Parameters are cast together, by one operation, and activations never.
    assert launches.counts['_foreach_copy_'] == 1
    assert launches.counts['_to_copy'] <= 2  # the image, the position embedding


def test_merging_adds_few_launches_and_no_copies_in_float32():
    dense = counted(small, 320, 320)
    merging = counted(lambda: small(dict(type='BipartiteMerging', keep_rate=0.5)), 320, 320)
    own = merging.counts - dense.counts
    assert own['segment_sum'] == 2 * 5  # three merges, and twice again after an Injector
    assert own['gather'] <= 20
    assert own['proportional_attention'] == 8
    # Segment means give the sizes too, and make no float32 copies.
    assert own['scatter_add'] + own['scatter_add_'] == 0


def test_in_training_weights_are_cast_together():
    with pretended_gpu() as launches, torch.enable_grad():
        model = small().train()
        image = torch.empty(2, 3, 320, 320)
        model(image)
        launches.clear()
        with launches:
            model(image)
    assert launches.counts['_foreach_copy_'] <= 10
    assert launches.counts['_to_copy'] <= 25  # of convolutions and the image
    assert sum(launches.counts.values()) <= 420, launches.counts.most_common()
