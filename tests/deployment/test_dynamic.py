"""Files for all sizes and batches, in every format."""

from __future__ import annotations

import mmcv
import numpy as np
import pytest
import torch

from mmdet_atc.apis import load_exported
from mmdet_atc.deployment import Spec, compare
from mmdet_atc.deployment.pt2 import traced


@pytest.fixture(
    scope='module', params=['pt2', 'onnx', pytest.param('aoti', marks=pytest.mark.slow)]
)
def dynamic(request, dynamic_file):
    return load_exported(dynamic_file(request.param), show_progress=False)


@pytest.fixture(scope='module')
def pictures(images):
    """Small real images of several sizes."""
    sizes = ((160, 100), (96, 128), (100, 150), (310, 200))
    return [mmcv.imresize(mmcv.imread(path), size) for path, size in zip(images, sizes)]


@pytest.mark.parametrize('batch', [1, 3])
def test_one_file_for_all_sizes_and_batches(dynamic, inferencer, pictures, batch):
    parity = compare(inferencer.model, dynamic.program, dynamic.batches(pictures, batch))
    assert parity.detections == 30 * 4
    assert parity.is_within(), parity


def test_a_file_is_called_as_the_inferencer(dynamic, inferencer, pictures):
    for given in pictures[:2]:
        options = dict(return_vis=True, pred_score_thr=0.2)
        found, expected = dynamic(given, **options), inferencer(given, **options)
        assert found.keys() == expected.keys()
        (one,), (other,) = found['predictions'], expected['predictions']
        assert one.keys() == other.keys()
        assert one['labels'] == other['labels']
        assert len(one['labels']) > 10
        np.testing.assert_allclose(one['scores'], other['scores'], atol=1e-5)
        np.testing.assert_allclose(one['bboxes'], other['bboxes'], atol=1e-3)
        # MMDetection draws in random colours.
        assert found['visualization'][0].shape == expected['visualization'][0].shape


@pytest.mark.parametrize('shape', [(1, 3, 64, 96), (1, 3, 96, 100), (65, 3, 96, 96)])
def test_what_is_out_of_range_is_one_line(dynamic, shape):
    pixels = torch.zeros(1, dtype=torch.uint8).expand(shape)
    with pytest.raises(ValueError, match=r'1 to 64, .* from 96 to 2880 as H and W, got') as caught:
        dynamic.program(pixels, torch.zeros(shape[0], 2, dtype=torch.int64))
    assert '\n' not in str(caught.value)


def test_a_picture_that_is_too_large_is_one_line(dynamic):
    pipeline = dynamic.program.spec.config['pipeline']
    assert any(transform['type'] == 'Resize' for transform in pipeline)
    with pytest.raises(ValueError, match='at most 2880x2880, got one of 32x2881'):
        dynamic.model.test_step(dict(inputs=[torch.zeros(3, 32, 2881)], data_samples=[None]))


class Halved(torch.nn.Module):
    """Computes otherwise where the height is a multiple of 64, or takes two images only."""

    def __init__(self, is_of_batches):
        super().__init__()
        self.is_of_batches = is_of_batches

    def forward(self, pixels, sizes):
        if self.is_of_batches:
            return sum(size * 2 for size in sizes)
        return pixels[:, :, ::2] if pixels.shape[2] % 64 == 0 else pixels


@pytest.mark.parametrize(
    ('is_of_batches', 'message'),
    [(False, 'not with images 1 of 96x96. Guard failed'), (True, 'Constraints violated')],
)
def test_a_model_that_is_not_the_same_for_all_sizes_is_refused(is_of_batches, message):
    with pytest.raises(ValueError, match=f'export one shape: {message}') as caught:
        traced(Halved(is_of_batches), Spec(128, 160, dynamic=True))
    assert '\n' not in str(caught.value)


class Residues(torch.nn.Module):
    """Depends on sizes by a long formula."""

    def forward(self, pixels, sizes):
        rows = pixels.shape[2]
        for step in range(3, 23, 2):
            rows = rows // step * step + pixels.shape[3] // step
        return pixels[:, :, ::2] if rows % 64 == 0 else pixels


def test_a_guard_that_fails_is_not_printed_in_full():
    with pytest.raises(ValueError, match=r'Guard failed.* \[\.\.\.\]$') as caught:
        traced(Residues(), Spec(128, 160, dynamic=True))
    assert len(str(caught.value)) < 300
