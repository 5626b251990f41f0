"""Test-time augmentation: each image and its mirror image, where MMDetection can merge both."""

from __future__ import annotations

from mmengine.config import Config, ConfigDict

from .data import data_sets

_MODEL = dict(
    type='DetTTAModel',
    tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
)
_MIRRORED = dict(
    type='TestTimeAug',
    transforms=[
        [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],
        [dict(type='PackDetInputs')],
    ],
)


def augment_test(cfg: Config) -> None:
    """Change a config in place to test as MMDetection's ``--tta`` does.

    Its ``tta_model`` and ``tta_pipeline`` are taken where it has them; without, images are flipped
    and boxes joined by NMS.

    Raises:
        ValueError: If the detector finds masks, which MMDetection cannot merge, or the pipeline
            does not end with PackDetInputs.
    """
    heads = {**cfg.model, **(cfg.model.get('roi_head') or {})}
    if heads.get('mask_head') or heads.get('panoptic_head'):
        raise ValueError(
            '--tta: MMDetection merges boxes alone, and this detector finds masks; a detector '
            'of boxes (RetinaNet, ATSS, Faster R-CNN ...) can be tested so'
        )
    cfg.model = ConfigDict(**cfg.get('tta_model', _MODEL), module=cfg.model)
    for dataset in data_sets(cfg, 'test'):
        if 'tta_pipeline' in cfg:
            dataset.pipeline = cfg.tta_pipeline
            continue
        *transforms, last = dataset.pipeline
        if last['type'] != 'PackDetInputs':
            raise ValueError(
                f'--tta: the pipeline of the test must end with PackDetInputs, not '
                f'{last["type"]}; give tta_pipeline in the config'
            )
        dataset.pipeline = [*transforms, _MIRRORED]
