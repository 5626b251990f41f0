"""ATC's clustering for onnxruntime, by onnxruntime-extensions' operators in Python.

For programs that run an exported ``.onnx`` file of a model that clusters; needs nothing of
OpenMMLab. All other exported files run in onnxruntime as it is. Programs without torch build the
operator from ``clustering/forms/csrc/onnxruntime.cpp`` (docs/export.md).
"""

from __future__ import annotations

import functools

import numpy as np
import onnxruntime
import torch

from .clustering import agglomerative_clustering

#: Domain of our operators in an ONNX file.
DOMAIN = 'mmdet_atc'


def session_options() -> onnxruntime.SessionOptions:
    """Options of a session that knows the operators, with torch's number of threads.

    Raises:
        ImportError: If onnxruntime-extensions is not installed.
    """
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(_library())
    options.intra_op_num_threads = torch.get_num_threads()
    return options


@functools.cache
def _library() -> str:
    """Path of the library that calls Python, which knows the operators from now on."""
    from onnxruntime_extensions import PyOp, get_library_path, onnx_op

    @onnx_op(
        op_type=f'{DOMAIN}::AgglomerativeClustering',
        inputs=[PyOp.dt_float, PyOp.dt_int64],
        outputs=[PyOp.dt_int64],
        attrs=dict(linkage=PyOp.dt_string),
    )
    def cluster(features: np.ndarray, num_clusters: np.ndarray, linkage: str) -> np.ndarray:
        labels = agglomerative_clustering(torch.from_numpy(features), int(num_clusters[0]), linkage)
        return labels.numpy()

    return get_library_path()
