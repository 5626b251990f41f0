"""ONNX: standard operators, and one of our own for ATC's clustering (:mod:`mmdet_atc.onnx_ops`)."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet_atc.layers.deformable import sampled

from .detector import OUTPUTS, Detections, TraceableDetector
from .pt2 import traced
from .regions import IMAGES_APART
from .spec import Spec

INPUTS = ('pixels', 'sizes')
OPSET = 18
#: Key of the :class:`Spec` in the file.
_SPEC = 'mmdet_atc'
_CLUSTERING = 'AgglomerativeClustering'


def save(detector: TraceableDetector, spec: Spec, path: Path) -> None:
    """Export to an ``.onnx`` file.

    Raises:
        ImportError: If a package of the extra ``onnx`` is not installed.
    """
    require('onnx', 'onnxscript')
    operators = torch.ops.mmdet_atc
    program = traced(detector, spec).run_decompositions(
        {
            operators.deformable_attention.default: _attention,
            operators.agglomerative_clustering.default: _clustering,
            torch.ops.aten.repeat_interleave.self_int: _repeated,
        }
    )
    # The exporter's counts of what it rewrites.
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    found = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=INPUTS,
        output_names=OUTPUTS,
        custom_translation_table=translations(),
        verbose=False,
    )
    assert found is not None
    found.model.metadata_props[_SPEC] = spec.to_json()
    found.save(path)


def load(path: Path) -> tuple[str | None, Callable[[Tensor, Tensor], Detections]]:
    """The :class:`Spec` in a file of :func:`save`, as JSON (None in others), and the program.

    Raises:
        ImportError: If onnxruntime is not installed, or the file clusters and
            onnxruntime-extensions is not.
        ValueError: If onnxruntime cannot open the file.
    """
    require('onnxruntime')
    import onnxruntime

    if importlib.util.find_spec('onnxruntime_extensions'):
        from mmdet_atc.onnx_ops import session_options

        options = session_options()
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime has no class of its own for it
        if _CLUSTERING not in str(error):
            message = str(error).splitlines()[0]
            raise ValueError(f'onnxruntime cannot open {path}: {message}') from error
        raise ImportError(
            f'{path} clusters tokens, which needs onnxruntime-extensions: {_ADVICE}'
        ) from error

    def run(pixels: Tensor, sizes: Tensor) -> Detections:
        given = dict(zip(INPUTS, (pixels.numpy(), sizes.numpy()), strict=True))
        found = session.run(list(OUTPUTS), given)
        return dict(zip(OUTPUTS, map(torch.from_numpy, found), strict=True))

    return session.get_modelmeta().custom_metadata_map.get(_SPEC), run


_ADVICE = "pip install 'mmdet_atc[onnx]'"


def require(*packages: str) -> None:
    """That packages of the extra ``onnx`` are installed.

    Raises:
        ImportError: If one is not.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'ONNX needs {" and ".join(missing)}: {_ADVICE}')


def _attention(value: Tensor, projections: Tensor, reference: Tensor, shapes: list[int]) -> Tensor:
    pairs = tuple(zip(shapes[::2], shapes[1::2], strict=True))
    return sampled.deformable_attention(value, projections, reference, pairs)


def _clustering(
    features: Tensor, num_clusters: int, linkage: str, backend: str, *_: None
) -> Tensor:
    return torch.onnx.ops.symbolic(
        f'mmdet_atc::{_CLUSTERING}',
        (features, torch.full((1,), num_clusters, dtype=torch.int64)),
        dict(linkage=linkage),
        dtype=torch.int64,
        shape=features.shape[:2],
        version=1,
    )


def _repeated(x: Tensor, repeats: int, dim: int | None = None, output_size: None = None) -> Tensor:
    # onnxscript 0.7.2 repeats along the wrong dimension where the number depends on the size.
    x, dim = (x.flatten(), 0) if dim is None else (x, dim % x.ndim)
    shape = [*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :]]
    return x.unsqueeze(dim + 1).expand(shape).flatten(dim, dim + 1)


def translations() -> dict[Any, Callable]:
    """Operators that the exporter does not know, or not as they are used here."""
    from onnxscript import DOUBLE, FLOAT, INT64, ir
    from onnxscript import opset18 as op

    def nms(boxes, scores, iou_threshold: float):
        # In float32 only, where images would lose digits if they lay apart: they are its classes.
        zero, one, apart = (op.Constant(value=ir.tensor(x)) for x in (0, 1, IMAGES_APART))
        apart = op.Cast(apart, to=DOUBLE.dtype)
        image = op.Floor(op.Div(op.Slice(boxes, [0], [1], [1]), apart))
        boxes = op.Cast(op.Sub(boxes, op.Mul(image, apart)), to=FLOAT.dtype)
        image = op.Reshape(op.Cast(image, to=INT64.dtype), [1, -1])
        last = op.ReduceMax(op.Concat(image, op.Unsqueeze(zero, [0, 1]), axis=1), keepdims=0)
        is_image = op.Equal(op.Unsqueeze(op.Range(zero, op.Add(last, one), one), [1]), image)
        nothing = op.Constant(value_float=-2.0)  # of others; no score is below -1
        scores = op.Where(is_image, op.Cast(scores, to=FLOAT.dtype), nothing)
        found = op.NonMaxSuppression(
            op.Unsqueeze(boxes, [0]), op.Unsqueeze(scores, [0]), 2**63 - 1, iou_threshold, -1.5
        )
        return op.Reshape(op.Slice(found, [2], [3], [1]), [-1])

    def sort(self, stable: bool = True, dim: int = -1, descending: bool = False):
        # Of equal values TopK takes the first one first.
        length = op.Slice(op.Shape(self), [dim], [dim + 1 or 2**31 - 1])
        return op.TopK(self, length, axis=dim, largest=int(descending))

    return {
        torch.ops.torchvision.nms.default: nms,
        torch.ops.aten.sort.stable: sort,
    }
