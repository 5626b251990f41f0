"""mmcv's compiled operators on torchvision's, where mmcv was installed without them.

``mmcv-lite`` has all of mmcv's Python code and lacks one file, the extension module ``mmcv._ext``.
:func:`install` puts a finder behind all others of :data:`sys.meta_path`, which supplies a module of
that name where nothing else does. So a compiled one is preferred and left alone, one that fails to
load says itself why, and nothing is written into mmcv's folder.

Supplied are, with mmcv's signatures, on any device: ``nms``, ``softnms``, ``roi_align``,
``ms_deform_attn`` and ``sigmoid_focal_loss``, forward and backward. Every other operator exists and
raises :class:`NotImplementedError` with its name.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import runpy
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

#: Distributions that own the folder ``mmcv``.
_OWNERS = ('mmcv', 'mmcv-lite', 'mmcv-full', 'onedl-mmcv')


def install() -> None:
    """Supply ``mmcv._ext`` from now on where it is missing; call it before mmdet is imported.

    Warns:
        UserWarning: If several distributions of mmcv lie over one another.
    """
    sys.meta_path.append(_Finder())
    owners = [name for name in _OWNERS if _is_installed(name)]
    if len(owners) > 1:
        warnings.warn(
            f"{' and '.join(owners)} are installed over one another in the folder 'mmcv': "
            f'pip uninstall -y {" ".join(owners)}, then install one of them',
            stacklevel=2,
        )


def is_supplied() -> bool:
    """Whether mmcv's operators are those of this module."""
    spec = importlib.util.find_spec('mmcv._ext')
    return spec is not None and isinstance(spec.loader, _Loader)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Loader()) if fullname == 'mmcv._ext' else None


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        import torchvision  # noqa: F401  registers torch.ops.torchvision

        module.__doc__ = __doc__
        vars(module).update({operator.__name__: operator for operator in _OPERATORS})
        vars(module)['__getattr__'] = _not_compiled


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _not_compiled(name: str) -> Callable[..., NoReturn]:
    """The module's ``__getattr__``: an operator that says that it is not there."""
    if name.startswith('_'):
        raise AttributeError(name)

    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator '{name}' is compiled code that mmcv-lite lacks and mmdet_atc does "
            'not replace: install the compiled mmcv (`make env MMCV=full` in a clone of mmdet_atc, '
            'else `pip uninstall -y mmcv-lite && pip install --no-build-isolation mmcv==2.1.0`)'
        )

    operator.__name__ = name
    return operator


def get_compiler_version() -> str:
    return 'none (mmdet_atc.mmcv_ext)'


def get_compiling_cuda_version() -> str:
    return 'not available'


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes ``(N, 4)`` that are kept, best score first, ``(K,)`` int64."""
    wide = _full(boxes)
    # A box of integer corners that includes its last pixel ends one further.
    ends = wide.new_tensor([0, 0, offset, offset])
    # mmcv compares with the float32 threshold.
    return torch.ops.torchvision.nms(wide + ends, _full(scores), float(np.float32(iou_threshold)))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017) on the CPU.

    Args:
        boxes (Tensor): ``(N, 4)``.
        scores (Tensor): ``(N,)``.
        dets (Tensor): Gets the kept boxes with their lowered scores, ``(N, 5)``.
        iou_threshold (float): Where lowering begins; not for method 2.
        sigma (float): Of method 2.
        min_score (float): Boxes below it are dropped.
        method (int): 0 drops, 1 lowers linearly, 2 by a Gaussian.
        offset (int): Boxes are ``x2 - x1 + offset`` wide.

    Returns:
        Tensor: Indices of the kept boxes in their order, ``(K,)`` int64.
    """
    corners, left = boxes.numpy(), scores.numpy().copy()
    threshold, lowest, variance = np.array([iou_threshold, min_score, sigma], left.dtype)
    area = (corners[:, 2:] - corners[:, :2] + offset).prod(1)
    index = np.arange(len(left))
    kept, kept_scores = [], []
    while len(index):
        best = left.argmax()
        chosen = index[best]
        kept.append(chosen)
        kept_scores.append(left[best])
        index, left = np.delete(index, best), np.delete(left, best)
        start = np.maximum(corners[chosen, :2], corners[index, :2])
        end = np.minimum(corners[chosen, 2:], corners[index, 2:])
        inner = np.maximum(end - start + offset, 0).prod(1)
        with np.errstate(invalid='ignore'):  # two boxes without area overlap by NaN
            overlap = inner / (area[chosen] + area[index] - inner)
        if method == 2:
            left *= np.exp(-(overlap * overlap) / variance)
        else:
            near = overlap >= threshold
            left[near] *= 0 if method == 0 else 1 - overlap[near]
        stays = ~(left < lowest)
        index, left = index[stays], left[stays]
    dets[: len(kept), :4] = boxes[kept]
    dets[: len(kept), 4] = torch.from_numpy(np.array(kept_scores, scores.numpy().dtype))
    return torch.tensor(kept, dtype=torch.int64)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign of ``input (B, C, H, W)`` in ``rois (N, 5)`` into ``output (N, C, h, w)``."""
    if pool_mode == 0:
        _not_compiled("roi_align with pool_mode='max'")()
    with _no_autocast(input):
        pooled = torch.ops.torchvision.roi_align(
            _with_kernels(input),
            _with_kernels(rois),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of :func:`roi_align_forward` into ``grad_input (B, C, H, W)``."""
    grad = torch.ops.torchvision._roi_align_backward(
        _with_kernels(grad_output),
        _with_kernels(rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(grad)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention, ``(B, Q, H * D)``; shapes as mmcv's."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    with _no_autocast(value):
        sampled = multi_scale_deformable_attn_pytorch(
            _full(value),
            value_spatial_shapes.tolist(),
            _full(sampling_locations),
            _full(attention_weights),
        )
    return sampled.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Adds the gradients of :func:`ms_deform_attn_forward` to the ``grad_...``."""
    inputs = [x.detach().requires_grad_() for x in (value, sampling_locations, attention_weights)]
    value, locations, weights = inputs
    with torch.enable_grad():
        sampled = ms_deform_attn_forward(
            value, value_spatial_shapes, value_level_start_index, locations, weights, im2col_step
        )
    grads = torch.autograd.grad(sampled, inputs, grad_output.view_as(sampled))
    for total, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        total.add_(grad)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss (Lin et al., ICCV 2017) into ``output (N, C)``.

    Args:
        input (Tensor): Logits, ``(N, C)``.
        target (Tensor): Classes, C for the background, ``(N,)`` int64.
        weight (Tensor): Of each class, ``(C,)``, or empty.
        output (Tensor): ``(N, C)``.
        gamma (float): Exponent that makes easy examples count less.
        alpha (float): Weight of the true classes; the others have ``1 - alpha``.
    """
    output.copy_(_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """The gradient of :func:`sigmoid_focal_loss_forward` into ``grad_input (N, C)``."""
    logits = input.detach().requires_grad_()
    with torch.enable_grad():
        loss = _focal_loss(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def _focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
) -> Tensor:
    from torchvision.ops import sigmoid_focal_loss

    logits, classes = _full(logits), logits.shape[1]
    true = F.one_hot(target, classes + 1)[:, :classes].to(logits)
    loss = sigmoid_focal_loss(logits, true, alpha, gamma)
    if not weight.numel():
        return loss
    return loss * F.pad(_full(weight), (0, 1), value=1.0)[target, None]


def _full(x: Tensor) -> Tensor:
    """In float32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _with_kernels(x: Tensor) -> Tensor:
    """torchvision's RoIAlign, like mmcv's, knows no bfloat16."""
    return x.float() if x.dtype == torch.bfloat16 else x


def _no_autocast(x: Tensor) -> torch.autocast:
    """mmcv's operators compute in the type that they are given."""
    return torch.autocast(x.device.type, enabled=False)


_OPERATORS = (
    get_compiler_version,
    get_compiling_cuda_version,
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    ms_deform_attn_forward,
    ms_deform_attn_backward,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
)

if __name__ == '__main__':  # python -m mmdet_atc.mmcv_ext FILE ARGUMENTS
    # The package was imported for it, so that the script finds the operators.
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name='__main__')
