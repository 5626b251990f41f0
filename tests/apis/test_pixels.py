"""Arrays are what a file of their pixels is read as."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmdet_atc.apis.pixels import as_8_bit_colour

NOISE = np.random.default_rng(0).integers(0, 65536, (8, 12, 4))


@pytest.mark.parametrize('channels', [0, 1, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_as_opencv_reads_it_from_a_file(tmp_path, channels, dtype):
    image = NOISE.astype(dtype)
    image = image[..., 0] if not channels else image[..., :channels]
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    read = cv2.imread(str(tmp_path / 'a.png'))
    got = as_8_bit_colour(image)
    assert got.dtype == np.uint8
    assert np.array_equal(got, read)


def test_floats_are_rounded_and_bools_are_black_and_white():
    floats = NOISE[..., :3] / 257
    assert np.array_equal(as_8_bit_colour(floats), floats.round())
    assert as_8_bit_colour(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((2, 2), np.float32), 'multiply those in 0 to 1 by 255'),
        (np.full((2, 2), np.nan), 'must be in 0 to 255, got nan'),
        (np.full((2, 2), 300.0), 'must be in 0 to 255'),
        (np.zeros((2, 2), np.int64), 'got int64'),
        (np.zeros((2, 2, 2), np.uint8), r'got \(2, 2, 2\)'),
        (np.zeros((1, 3, 4, 4), np.uint8), 'must be'),
        (np.zeros((0, 4, 3), np.uint8), 'must be'),
    ],
)
def test_what_is_no_image_or_ambiguous_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        as_8_bit_colour(image)
