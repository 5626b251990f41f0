"""MMDetection's inferencer with the names of our models and without its silent mistakes."""

from __future__ import annotations

import difflib
import os.path as osp
import warnings
from collections import Counter
from os import PathLike
from typing import Any

import numpy as np
from mmdet import apis
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.visualization import Visualizer

from mmdet_atc.checkpoints import fitted
from mmdet_atc.engine import load_config
from mmdet_atc.shipped import shipped
from mmdet_atc.visualization.files import find_images

from .pixels import as_8_bit_colour


class DetInferencer(apis.DetInferencer):
    """:class:`mmdet.apis.DetInferencer` for the models of this package.

    It is called alike and gives the same. What it adds: models by name; heads with as many classes
    as the data (:func:`mmdet_atc.engine.follow_classes`); a checkpoint that does not fit the model
    is an error instead of a warning and bad boxes; where the checkpoint does not name its classes,
    the config does, not COCO; arrays of pixels are taken as from files, grey, 16-bit and RGBA ones
    too; of a folder each image that :func:`~mmdet_atc.visualization.files.find_images` finds there
    is taken, sorted.

    Args:
        model (str | Config, optional): Config file, name of a model in ``MODEL_ZOO.md``, or a
            config. None takes the config from the weights.
        weights (str, optional): File, URL or ``hf://ORG/REPO/FILE``. None takes the published ones
            of a named model, and random ones otherwise.
        **kwargs: ``device``, ``palette``, ``show_progress`` as in MMDetection.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If there is no such model, or it has no published weights and none are given;
            in a call, if a folder has no images, two of several files would write the same file
            below ``out_dir``, or ``batch_size`` is below 1.
        CheckpointError: If the checkpoint does not fit the model, or is none.

    Examples:
        >>> from mmdet_atc.apis import DetInferencer
        >>> inferencer = DetInferencer('atc_vit_adapter_t_average_r50')
        >>> inferencer('my.jpg', out_dir='work_dirs/detections')['predictions'][0]['bboxes']
    """

    def __init__(
        self, model: str | Config | None = None, weights: str | None = None, **kwargs: Any
    ) -> None:
        if isinstance(model, str):
            model, weights = _resolved(model, weights)
        self._source = weights
        super().__init__(model, weights, **kwargs)

    def __call__(self, inputs: Any, *args: Any, out_dir: str = '', **kwargs: Any) -> dict:
        if out_dir:
            inputs = self._inputs_to_list(inputs)
            _check_names(inputs, without_suffix=not kwargs.get('no_save_pred', True))
        return super().__call__(inputs, *args, out_dir=osp.expanduser(out_dir), **kwargs)

    def _inputs_to_list(self, inputs: Any) -> list:
        if isinstance(inputs, str | PathLike):
            inputs = osp.expanduser(inputs)
            if osp.isdir(inputs):
                inputs = list(map(str, find_images([inputs])))
        return [_image(x) for x in super()._inputs_to_list(inputs)]

    def _get_chunk_data(self, inputs: Any, chunk_size: int) -> Any:
        if chunk_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {chunk_size}')
        return super()._get_chunk_data(inputs, chunk_size)

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = '') -> dict:
        if data_sample.get('img_path', '') is None:  # of an array: the base names files by it
            del data_sample.img_path
        return super().pred2dict(data_sample, pred_out_dir)

    def _load_weights_to_model(self, model: Any, checkpoint: dict | None, cfg: Config) -> None:
        classes = ()
        if checkpoint is not None:
            state = fitted(checkpoint, model.state_dict(), str(self._source))
            meta = checkpoint.get('meta') or {}
            classes = meta.get('CLASSES') or (meta.get('dataset_meta') or {}).get('classes', ())
            checkpoint = {**checkpoint, 'meta': meta, 'state_dict': state}
        if not classes:
            dataset = {**cfg.test_dataloader.dataset, 'lazy_init': True}
            classes = DATASETS.build(dataset).metainfo['classes']
            if checkpoint is not None:
                checkpoint['meta'] = {**checkpoint['meta'], 'dataset_meta': dict(classes=classes)}
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'weights is None, use COCO')  # not so: see below
            super()._load_weights_to_model(model, checkpoint, cfg)
        model.dataset_meta['classes'] = tuple(classes)

    def _init_visualizer(self, cfg: Config) -> Visualizer | None:
        # Pictures are returned or written one by one; backends would want a work dir.
        cfg.setdefault('visualizer', dict(type='DetLocalVisualizer')).vis_backends = None
        return super()._init_visualizer(cfg)


def _image(given: Any) -> Any:
    """An array as a file would be read, or the path of a file."""
    if isinstance(given, np.ndarray):
        return as_8_bit_colour(given)
    if isinstance(given, str | PathLike):
        return osp.expanduser(given)
    if isinstance(given, dict):  # of MMDetection's loader
        return given
    raise TypeError(f'an image must be a path or a NumPy array, got {type(given).__name__}')


def _check_names(inputs: list, without_suffix: bool) -> None:
    """What is written is called as the file: refuse to write one over another.

    Pictures have the image's suffix, saved predictions have not.
    """
    names = [osp.basename(one) for one in inputs if isinstance(one, str)]
    if without_suffix:
        names = [osp.splitext(name)[0] for name in names]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            'out_dir gets files by the name of each image, and several are called '
            f'{", ".join(twice[:5])}: call once for each, or use demo/image_demo.py'
        )


def _resolved(model: str, weights: str | None) -> tuple[Config, str | None]:
    """Config and weights of a config file or of a model's name."""
    if osp.isfile(model) or model.endswith(('.py', '.json', '.yml', '.yaml')):
        return load_config(model), weights
    root = shipped('')
    models = {m['Name']: m for m in apis.DetInferencer._get_models_from_metafile(str(root))}
    if model not in models:
        if weights is not None and (root / 'configs' / f'{model}.py').is_file():
            return load_config(model), weights
        close = difflib.get_close_matches(model, models, n=3)
        hint = f'did you mean {" or ".join(close)}?' if close else 'MODEL_ZOO.md lists the names.'
        raise ValueError(f'there is neither a config file nor a model {model!r}: {hint}')
    if weights is None and 'Weights' not in models[model]:
        raise ValueError(f'no weights are published for {model}: give a checkpoint of it')
    return load_config(str(root / models[model]['Config'])), weights or models[model]['Weights']
