"""A quick look at few images, whose figures count only these."""

from __future__ import annotations

from mmengine.config import Config

from .data import data_sets, evaluators

_EVALUATES_WHAT_WAS_RUN = 'CheckedCocoMetric'


def limit_images(cfg: Config, count: int) -> None:
    """Leave only the first images of each data set of a run.

    Args:
        cfg (Config): Config of a run, changed in place.
        count (int): Number of images.

    Raises:
        ValueError: If an evaluator would count the other images as missed.
    """
    for split in ('train', 'val', 'test'):
        for dataset in data_sets(cfg, split):
            dataset.indices = count
        for evaluator in evaluators(cfg, split):
            if evaluator.get('ann_file') and evaluator['type'] != _EVALUATES_WHAT_WAS_RUN:
                raise ValueError(
                    f'--limit-images: {split}_evaluator is a {evaluator["type"]}, which counts '
                    f'the images left out as missed; {_EVALUATES_WHAT_WAS_RUN} does not'
                )
