"""What a file says about its inputs, and to those that do not fit."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.deployment import Spec, open_program, save

FIXED = Spec(96, 128, batch=2)
DYNAMIC = Spec(96, 128, dynamic=True)


def inputs(*shape):
    return torch.zeros(*shape, dtype=torch.uint8), torch.zeros(shape[0], 2, dtype=torch.int64)


def test_it_is_read_as_it_was_written():
    spec = Spec(96, 128, 2, True, dict(pipeline=[dict(type='Resize', scale=(1333, 800))]))
    assert Spec.from_json(spec.to_json()) == spec


def test_sides_that_are_no_multiples_are_refused_with_those_that_fit():
    with pytest.raises(ValueError, match=r'multiples of 32, got 800 and 1333; .* 800 and 1344'):
        Spec(800, 1333)


@pytest.mark.parametrize('given', [dict(height=64), dict(width=2912), dict(batch=65)])
def test_dynamic_files_are_traced_with_what_they_take(given):
    with pytest.raises(ValueError, match=r'dynamic file takes pixels of \(1 to 64, 3, H, W\)'):
        Spec(**{'height': 96, 'width': 128, 'dynamic': True, **given})
    Spec(**{'height': 96, 'width': 128, **given})


@pytest.mark.parametrize(
    ('spec', 'shape', 'message'),
    [
        (
            FIXED,
            (1, 3, 96, 128),
            r'uint8 pixels of \(2, 3, 96, 128\), got uint8 \(1, 3, 96, 128\)',
        ),
        (FIXED, (2, 3, 128, 96), r'got uint8 \(2, 3, 128, 96\)'),
        (FIXED, (2, 1, 96, 128), r'got uint8 \(2, 1, 96, 128\)'),
        (FIXED, (3, 96, 128), r'got uint8 \(3, 96, 128\)'),
        (DYNAMIC, (3, 96, 128), r'got uint8 \(3, 96, 128\)'),
        (DYNAMIC, (0, 3, 96, 128), r'\(1 to 64, 3, H, W\)'),
        (DYNAMIC, (1, 3, 100, 128), 'multiples of 32 from 96 to 2880'),
        (DYNAMIC, (1, 3, 64, 128), 'multiples of 32 from 96 to 2880'),
    ],
)
def test_wrong_shapes_are_one_line(spec, shape, message):
    with pytest.raises(ValueError, match=message) as caught:
        spec.check(*inputs(*shape))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('spec', 'shape'), [(FIXED, (2, 3, 96, 128)), (DYNAMIC, (5, 3, 256, 96))])
def test_right_shapes_pass(spec, shape):
    pixels, _ = inputs(*shape)
    sizes = torch.tensor([shape[2:]] * shape[0])
    spec.check(pixels, sizes)
    with pytest.raises(ValueError, match=r'takes uint8 pixels of .*, got float32'):
        spec.check(pixels.float(), sizes)
    for wrong, message in (
        (sizes[:1], rf'int64 \({shape[0]}, 2\), got int64 \(1, 2\)'),
        (sizes.float(), r'must be int64 .*, got float32'),
        (sizes + 1, 'sizes are heights and widths in pixels of'),
        (sizes * 0, 'sizes are heights and widths in pixels of'),
    ):
        with pytest.raises(ValueError, match=message):
            spec.check(pixels, wrong)


def test_pictures_are_padded_to_what_a_file_takes():
    assert FIXED.padded_size(50, 60) == (96, 128)
    assert DYNAMIC.padded_size(50, 200) == (96, 224)
    with pytest.raises(ValueError, match='at most 96x128, got one of 97x100'):
        FIXED.padded_size(97, 100)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no exported file at .*none\.pt2'):
        open_program(tmp_path / 'none.pt2')
    torch.save({}, tmp_path / 'weights.pth')
    (tmp_path / 'text.pt2').write_text('hello')
    (tmp_path / 'text.onnx').write_text('hello')
    with pytest.raises(ValueError, match=r'onnxruntime cannot open .*text\.onnx: ') as caught:
        open_program(tmp_path / 'text.onnx')
    assert '\n' not in str(caught.value)
    for name in ('weights.pth', 'text.pt2'):
        with pytest.raises(ValueError, match=rf'{name} is no file of tools/deployment'):
            open_program(tmp_path / name)


def test_an_older_torch_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, '__version__', type(torch.__version__)('2.9.1'))
    for format, file, oldest in (('pt2', 'a.pt2', '2.10'), ('onnx', 'a.onnx', '2.11')):
        with pytest.raises(
            ImportError, match=f"'{format}' needs torch {oldest} or later, .* 2.9.1"
        ):
            save(None, FIXED, tmp_path / file, format)
