"""How many kernels a forward pass on a GPU starts, and the bytes they move, counted without one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmdet_atc.backbones.geometry import _kept_geometry
from mmdet_atc.backbones.pos_embed import _kept_weights

#: Operations that start nothing: views, allocations, questions.
FREE = frozenset(
    """view t transpose permute expand select slice split split_with_sizes unbind detach alias
    as_strided unsqueeze squeeze empty empty_like empty_strided empty_permuted new_empty
    new_empty_strided _unsafe_view device promote_types _reshape_alias lift_fresh""".split()  # noqa: SIM905
)
#: Operations of ours that start more than one kernel.
KERNELS = {'segment_sum': 3, 'depthwise_gelu': 2}


class Launches(TorchDispatchMode):
    """Counts every operation that is not :data:`FREE` as one launch, by name.

    Attributes:
        counts (Counter): Launches by operation.
        bytes (Counter): Bytes of the tensors that operations read and write, each once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.name().split('::')[1].split('.')[0]
        if name not in FREE:
            self.add(name, args, kwargs, out)
        return out

    def add(self, name: str, *tensors) -> None:
        self.counts[name] += KERNELS.get(name, 1)
        found = {id(x): x for x in tree_leaves(tensors) if isinstance(x, Tensor)}
        self.bytes[name] += sum(x.numel() * x.element_size() for x in found.values())


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Launches]:
    """Tensors are made on a GPU that is not there and hold nothing; yields what is to be entered.

    Autocast to float16 is on. Attention and cuDNN's convolution with ReLU, which are one operation
    each on a GPU only, are put in by hand.
    """
    launches = Launches()

    def attention(q, k, v, attn_mask=None, scale=None, dropout_p=0.0):
        out = q.new_empty(len(q), q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
        launches.add('attention', q, k, v, out)
        return out

    def conv_relu(x, weight, bias, stride, padding, dilation, groups):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    own = F.scaled_dot_product_attention, torch.cudnn_convolution_relu
    available, default = torch.backends.cudnn.is_available, torch.get_default_device()
    _forget_constants()
    try:
        F.scaled_dot_product_attention, torch.cudnn_convolution_relu = attention, conv_relu
        torch.backends.cudnn.is_available = lambda: True
        torch.set_default_device('cuda')
        torch.set_autocast_enabled('cuda', True)
        torch.set_autocast_dtype('cuda', torch.float16)
        with FakeTensorMode(), torch.no_grad():
            yield launches
    finally:
        _forget_constants()
        F.scaled_dot_product_attention, torch.cudnn_convolution_relu = own
        torch.backends.cudnn.is_available = available
        torch.set_default_device(default)
        torch.set_autocast_enabled('cuda', False)


def _forget_constants() -> None:
    """Those of a GPU that is not there are of no use to other tests."""
    _kept_geometry.cache_clear()
    _kept_weights.cache_clear()


def counted(build, height: int, width: int, batch: int = 1) -> Launches:
    """Launches of a backbone's second forward pass."""
    with pretended_gpu() as launches:
        model: nn.Module = build().eval()
        image = torch.empty(batch, 3, height, width)
        model(image)  # constants of the size
        launches.counts.clear()
        launches.bytes.clear()
        with launches:
            model(image)
    return launches
