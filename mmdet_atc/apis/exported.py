"""An exported detector behind the call of the inferencer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmcv
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor, nn

from mmdet_atc.deployment import Program, Spec, of_image, open_program

from .inferencer import DetInferencer


class ExportedInferencer(DetInferencer):
    """:class:`DetInferencer` that runs an exported file; see :func:`load_exported`."""

    def __init__(self, program: Program, **kwargs: Any) -> None:
        self.program = program
        pipeline = program.spec.config['pipeline']
        config = dict(
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
            visualizer=dict(type='DetLocalVisualizer'),
        )
        super().__init__(Config(config), device='cpu', **kwargs)

    def _init_model(self, cfg: Config, weights: str | None, device: str) -> nn.Module:
        return _ExportedModel(self.program)

    def _init_pipeline(self, cfg: Config) -> Compose:
        pipeline = cfg.test_dataloader.dataset.pipeline
        spec = self.program.spec
        if not spec.dynamic:
            for transform in pipeline:
                if transform['type'] == 'Resize':
                    transform.update(type='ResizeInto', size=(spec.height, spec.width))
        return Compose(pipeline)

    def batches(self, images: Any, batch_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """What the program is given for images: pixels and sizes, batch by batch.

        Args:
            images (str | np.ndarray | list): As in a call.
            batch_size (int): Images per batch. Default: 1.
        """
        for _, data in self.preprocess(self._inputs_to_list(images), batch_size):
            yield padded_batch(data['inputs'], self.program.spec)


def load_exported(file: str | Path, **kwargs: Any) -> ExportedInferencer:
    """A file of ``tools/deployment/export.py``, to be called as the inferencer.

    Args:
        file (str | Path): The file.
        **kwargs: ``palette``, ``show_progress`` as of :class:`DetInferencer`.

    Returns:
        ExportedInferencer: Takes what :class:`DetInferencer` takes and gives what it gives. Where
        the file has one size, pictures are resized to fit into it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no exported file.

    Examples:
        >>> from mmdet_atc.apis import load_exported
        >>> load_exported('detector.pt2')('my.jpg')['predictions'][0]['bboxes']
    """
    return ExportedInferencer(open_program(Path(file)), **kwargs)


@TRANSFORMS.register_module()
class ResizeInto(Resize):
    """Resizes as its base; a picture that would then exceed ``size`` is made to fit into it.

    Args:
        size (tuple[int, int]): Height and width.
        **kwargs: Arguments of the base class.
    """

    scale: tuple[int, int] | None

    def __init__(self, size: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = tuple(size)
        self._wanted = self.scale

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        if self._wanted is None:
            wide, high = width * self.scale_factor[0], height * self.scale_factor[1]
        elif self.keep_ratio:
            wide, high = mmcv.rescale_size((width, height), self._wanted)
        else:
            wide, high = self._wanted
        factor = min(self.size[0] / high, self.size[1] / wide)
        self.scale = self._wanted if factor >= 1 else (int(wide * factor), int(high * factor))
        return super().transform(results)


class _ExportedModel(nn.Module):
    """A program where the inferencer expects a model.

    Args:
        program (Program): An exported file.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        config = program.spec.config
        self.dataset_meta = config['metainfo']
        self.mask_threshold = config['mask_thr_binary']

    def test_step(self, data: dict) -> list[DetDataSample]:
        samples = data['data_samples']
        spec = self.program.spec
        size = len(samples) if spec.dynamic else spec.batch
        for start in range(0, len(samples), size):
            some = slice(start, start + size)
            self._detect(data['inputs'][some], samples[some])
        return samples

    def _detect(self, images: list[Tensor], samples: list[DetDataSample]) -> None:
        found = self.program(*padded_batch(images, self.program.spec))
        for index, sample in enumerate(samples):
            sample.pred_instances = of_image(
                found, index, sample.ori_shape[:2], self.mask_threshold, sample.scale_factor
            )


def padded_batch(images: list[Tensor], spec: Spec) -> tuple[Tensor, Tensor]:
    """The inputs of a program.

    Args:
        images (list[Tensor]): As a test pipeline gives them, ``(3, H, W)`` uint8 each, BGR.
        spec (Spec): Of the program.

    Returns:
        tuple[Tensor, Tensor]: Pixels ``(B, 3, H, W)`` and sizes ``(B, 2)``; where the file has a
        fixed batch, the last images are empty.

    Raises:
        ValueError: If an image is larger than the file takes.
    """
    if not spec.dynamic:
        images = [*images, *[images[0].new_zeros(3, 1, 1)] * (spec.batch - len(images))]
    sizes = torch.tensor([image.shape[1:] for image in images])
    height, width = spec.padded_size(*sizes.amax(dim=0).tolist())
    pixels = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    return torch.stack(pixels).flip(1), sizes


def config_of(inferencer: DetInferencer) -> dict[str, Any]:
    """What :func:`load_exported` needs of a detector's config, in values of Python alone."""
    config = Config(dict(pipeline=inferencer.cfg.test_dataloader.dataset.pipeline)).to_dict()
    metainfo = {k: inferencer.model.dataset_meta.get(k) for k in ('classes', 'palette')}
    threshold = inferencer.model.test_cfg.rcnn.get('mask_thr_binary', 0.5)
    return {**config, 'metainfo': metainfo, 'mask_thr_binary': threshold}
