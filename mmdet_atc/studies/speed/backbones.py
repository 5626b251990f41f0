"""Backbones on a GPU, side by side: times, memory, launches, stages, training steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.io import decode_jpeg, read_file
from torchvision.transforms import functional as transforms

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.backbones.blocks_of_pass import BlocksOfPass
from mmdet_atc.backbones.pretrained import load_pretrained_vit
from mmdet_atc.checkpoints import load_safely, vit_state_dict
from mmdet_atc.engine import load_config
from mmdet_atc.merging import AgglomerativeMerging

from .backbones_report import BackboneFigure
from .launches import Launches, kernels_started
from .memory import PeakMemory
from .stages import StageTimes
from .timing import as_graph, interleaved_times
from .training import trained

#: What is compared, the dense model first: arguments of a merger.
BACKBONE_CASES: dict[str, dict | None] = {
    'dense': None,
    **{
        f'{linkage} r={rate}': dict(linkage=linkage, keep_rate=rate)
        for linkage, rate in (
            ('average', 0.5),
            ('complete', 0.5),
            ('average', 0.25),
            ('average', 0.9),
        )
    },
}
SIZES = ('t', 's', 'b', 'l')
#: Mean and standard deviation of the configs' data preprocessor.
_NORMALISATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16, float32=None)


def build_backbones(
    size: str, vit: str | None, device: torch.device, **overrides: Any
) -> dict[str, ATCViTAdapter]:
    """The backbones of :data:`BACKBONE_CASES`, in evaluation mode, all with the same weights.

    Args:
        size (str): One of :data:`SIZES`.
        vit (str, optional): A trained plain ViT's file; its layer scales and the number of patches
            it was pretrained at are taken over. With random weights keys have no structure, and
            clustering takes many more rounds than it does on trained ones.
        device (torch.device): Where to put them.
        **overrides: Other arguments than those of ``configs/atc_vit_adapter_*_average_r50.py``.

    Returns:
        dict[str, ATCViTAdapter]: By name.

    Raises:
        CheckpointError: If the file does not fit a ViT of this size.
    """
    kwargs = {**load_config(f'atc_vit_adapter_{size}_average_r50').model.backbone, **overrides}
    del kwargs['type'], kwargs['merging']
    if vit is not None:
        state = vit_state_dict(load_safely(vit, 'cpu'))
        side = 16 * math.isqrt(state['pos_embed'].shape[1])
        has_scales = any('.gamma' in name for name in state)
        kwargs |= dict(img_size=side, pretrain_size=side, layer_scale=has_scales)
    torch.manual_seed(0)
    models = {
        name: ATCViTAdapter(merging=merging, **kwargs) for name, merging in BACKBONE_CASES.items()
    }
    first = models['dense']
    if vit is not None:
        load_pretrained_vit(first, vit)
    for model in models.values():
        model.load_state_dict(first.state_dict())
        model.to(device).eval()
    return models


class Study:
    """Measures backbones on a batch of images and gathers :class:`BackboneFigure` objects.

    Args:
        models (Mapping): From :func:`build_backbones`.
        images (Tensor): ``(8, 3, H, W)``, normalised, on the models' device.
        repeats (int): Measured calls of each. Default: 8.
    """

    def __init__(
        self, models: Mapping[str, ATCViTAdapter], images: Tensor, repeats: int = 8
    ) -> None:
        self.models = models
        self.images = images
        self.repeats = repeats
        self.figures: list[BackboneFigure] = []

    def inference(self, precision: str, batch: int, captured: bool = False) -> None:
        """Milliseconds an image, and MiB at most; kernels where they start one by one."""
        setting = f'{precision}, batch {batch}' + ', captured' * captured
        with self._captured(captured):
            calls = {name: self._call(name, precision, batch) for name in self.models}
            # A size is captured in its second call.
            times = interleaved_times(calls, self.repeats, self.images.device, warm_up=3)
            for name, call in calls.items():
                seconds = statistics.median(times[name])
                self._add(name, setting, 'ms an image', 1e3 * seconds / batch)
                if not captured:
                    with PeakMemory(self.images.device) as memory:
                        call()
                    self._add(name, setting, 'peak MiB', memory.mebibytes or 0)
                if self.images.is_cuda:
                    self._add(name, setting, 'launches', kernels_started(call))

    def stages(self, name: str, precision: str, batch: int) -> None:
        """Milliseconds, launches and MiB moved by stage; the device is waited for around each."""
        call = self._call(name, precision, batch)
        setting = f'{precision}, batch {batch}'
        holder = SimpleNamespace(backbone=self.models[name])
        call()
        with StageTimes(holder, self.images.device) as stages:
            for _ in range(3):
                call()
        with StageTimes(holder, self.images.device) as running, Launches(running.stage) as launches:
            call()
        for stage, seconds in stages.seconds.items():
            self._add(name, setting, f'{stage}, ms', 1e3 * seconds / 3)
            started, moved = launches.stages.get(stage, (0, 0))
            self._add(name, setting, f'{stage}, launches', started)
            self._add(name, setting, f'{stage}, MiB moved', moved / 2**20)

    def training(
        self, precision: str, batch: int, distributed: bool = False, captured: bool = False
    ) -> None:
        """Milliseconds a step of AdamW on the sum of squares of the maps, and MiB at most.

        ``captured`` runs the whole step as a CUDA graph: the time without Python's launch overhead.
        """
        setting = f'training step, {precision}, batch {batch}'
        setting += ', DDP and SyncBN' * distributed + ', captured' * captured
        for name, model in self.models.items():
            if distributed and name != 'dense':
                continue
            device = self.images.device
            with trained(model):
                step = self._step(model, precision, batch, distributed)
                if captured:
                    step = as_graph(step)
                with PeakMemory(device) as memory:
                    (times,) = interleaved_times({'': step}, self.repeats, device, 3).values()
                del step
            self._add(name, setting, 'ms a step', 1e3 * statistics.median(times))
            if not captured:
                self._add(name, setting, 'peak MiB', memory.mebibytes or 0)

    def authors_way(self, precision: str, batch: int) -> None:
        """One call with scikit-learn inside, image by image on the host, as the authors do it."""
        merger = self.models['average r=0.5'].merger
        assert isinstance(merger, AgglomerativeMerging)
        call = self._call('average r=0.5', precision, batch)
        with mock.patch.object(merger, 'backend', 'sklearn'):
            (seconds,) = interleaved_times({'': call}, 1, self.images.device, warm_up=0)['']
        setting = f'{precision}, batch {batch}, scikit-learn inside'
        self._add('average r=0.5', setting, 'ms an image', 1e3 * seconds / batch)

    def compiled(self, precision: str, batch: int) -> None:
        """The dense model through ``torch.compile``; compiling takes about a minute."""
        run = torch.compile(self.models['dense']._run)
        model = self.models['dense']
        call = self._call('dense', precision, batch, lambda x: run(x, BlocksOfPass(model)))
        times = interleaved_times({'': call}, self.repeats, self.images.device, warm_up=2)['']
        setting = f'{precision}, batch {batch}, torch.compile'
        self._add('dense', setting, 'ms an image', 1e3 * statistics.median(times) / batch)

    def _add(self, *parts) -> None:
        self.figures.append(BackboneFigure(*parts))

    def _call(
        self, name: str, precision: str, batch: int, function: Callable | None = None
    ) -> Callable[[], None]:
        images, function = self.images[:batch], function or self.models[name]

        def call() -> None:
            with torch.inference_mode(), self._precision(precision):
                function(images)

        return call

    def _precision(self, precision: str) -> torch.autocast:
        dtype = _DTYPES[precision]
        return torch.autocast(self.images.device.type, dtype=dtype, enabled=dtype is not None)

    @contextmanager
    def _captured(self, captured: bool) -> Iterator[None]:
        for model in self.models.values():
            model.set_compile(dict(mode='reduce-overhead') if captured else None)
        try:
            yield
        finally:
            for model in self.models.values():
                model.set_compile(None)

    def _step(
        self, model: nn.Module, precision: str, batch: int, distributed: bool
    ) -> Callable[[], None]:
        images, device = self.images[:batch], self.images.device
        if distributed:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            model = nn.parallel.DistributedDataParallel(model, device_ids=[device.index or 0])
        is_cuda = device.type == 'cuda'
        optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True, capturable=is_cuda)
        scaler = torch.amp.GradScaler(device.type, 512.0, enabled=precision == 'fp16')

        def step() -> None:
            optimizer.zero_grad()
            with self._precision(precision):
                loss = sum(feature.float().square().mean() for feature in model(images))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return step


def _distributed_training(study: Study) -> None:
    """One process, as the least that NCCL and SyncBN run with."""
    torch.distributed.init_process_group(
        'nccl', init_method='tcp://127.0.0.1:29555', world_size=1, rank=0
    )
    try:
        study.training('fp16', 2, distributed=True)
    finally:
        torch.distributed.destroy_process_group()


def _stages(study: Study) -> None:
    for name in ('dense', 'average r=0.5'):
        study.stages(name, 'fp16', 8)


#: What :class:`Study` measures, in order.
PARTS: dict[str, Callable[[Study], None]] = {
    'fp16-8': lambda study: study.inference('fp16', 8),
    'fp16-1': lambda study: study.inference('fp16', 1),
    'graphs-1': lambda study: study.inference('fp16', 1, captured=True),
    'graphs-8': lambda study: study.inference('fp16', 8, captured=True),
    'float32-8': lambda study: study.inference('float32', 8),
    'stages': _stages,
    'training': lambda study: study.training('fp16', 2),
    'graphs-training': lambda study: study.training('fp16', 2, captured=True),
    'ddp': _distributed_training,
    'authors': lambda study: study.authors_way('fp16', 8),
    'compile': lambda study: study.compiled('fp16', 8),
}


def images_of(folder: Path | None, height: int, width: int) -> Tensor:
    """Eight images, normalised as the models' configs do and padded to multiples of 32.

    Args:
        folder (Path, optional): With eight JPEG files or more. None is noise.
        height (int): Height that they are resized to.
        width (int): Width likewise.

    Returns:
        Tensor: ``(8, 3, H, W)`` float32.

    Raises:
        ValueError: If the folder has fewer.
    """
    if folder is None:
        images = 255 * torch.rand(8, 3, height, width, generator=torch.Generator().manual_seed(0))
    else:
        files = sorted(folder.glob('*.jpg'))[:8]
        if len(files) < 8:
            raise ValueError(f'{folder}: eight .jpg files are wanted, found {len(files)}')
        decoded = [decode_jpeg(read_file(str(file))).float() for file in files]
        images = torch.stack([transforms.resize(image, [height, width]) for image in decoded])
    images = transforms.normalize(images, *_NORMALISATION)
    return F.pad(images, (0, -width % 32, 0, -height % 32))
