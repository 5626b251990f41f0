"""Cluster pictures during validation, wherever the runner's Visualizer writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.amp import autocast

from mmdet_atc.arguments import check_bools, check_counts
from mmdet_atc.backbones import ATCViTAdapter, SViTAdapter
from mmdet_atc.engine import unwrapped
from mmdet_atc.merging import build_merger

from .grid import draw_cluster_grid
from .methods import KeepRate, mergings_to_compare
from .predict import compare_clusters, merging_by


@HOOKS.register_module()
class ClusterVisualizationHook(Hook):
    """Draws the clusters of the first images of each validation (and test), or SViT's tokens.

    Pictures go to all backends of ``runner.visualizer`` (files, TensorBoard, WandB, ...) as
    ``clusters_0_<file name>``, ``clusters_1_...``, at the current training iteration. Only the main
    process draws, images of its own share. The images' batch runs through the backbone once more
    for each method; the evaluation is not touched.
    With test-time augmentation the last view is drawn.

    Args:
        draw (bool): Whether to draw at all. Default: False.
        num_images (int): How many images. Default: 4.
        methods (Sequence[str]): Columns, names in :data:`mmdet_atc.merging.METHODS`; none is the
            model's own. Default: ``()``.
        keep_rates (Sequence): Columns, as of :func:`mergings_to_compare`; none is the model's
            own. Default: ``()``.
        cell (int, optional): Side of a patch in the picture, see :func:`draw_cluster_grid`; 8
            is half the size of the image. Default: None.

    Raises:
        ValueError: If ``draw`` is no bool, ``num_images`` not positive or ``cell`` below 4; with
            ``draw``, also if a method is unknown or a keep rate out of range, and before the run
            starts if the model merges no tokens or at another number of blocks.
    """

    priority = 'LOW'

    def __init__(
        self,
        draw: bool = False,
        num_images: int = 4,
        methods: Sequence[str] = (),
        keep_rates: Sequence[KeepRate] = (),
        cell: int | None = None,
    ) -> None:
        check_bools(draw=draw)
        check_counts(num_images=num_images)
        if cell is not None:
            check_counts(4, cell=cell)
        if draw:  # what no model takes is told before one is built
            columns = mergings_to_compare({'keep_rate': 1.0}, methods, keep_rates)
            for merging in filter(None, columns.values()):
                build_merger(merging)
        self.draw = draw
        self.num_images = num_images
        self.methods = methods
        self.keep_rates = keep_rates
        self.cell = cell
        self._columns: dict[str, dict[str, Any] | None] = {}
        self._drawn = 0

    def before_run(self, runner: Runner) -> None:
        if not self.draw:
            return
        backbone = getattr(unwrapped(runner), 'backbone', None)
        if not isinstance(backbone, (ATCViTAdapter, SViTAdapter)):
            raise ValueError(
                f'ClusterVisualizationHook: the backbone {type(backbone).__name__} merges no '
                'tokens; draw only with an ATCViTAdapter or SViTAdapter'
            )
        selects = isinstance(backbone, SViTAdapter)
        if selects and (self.methods or self.keep_rates):
            raise ValueError('ClusterVisualizationHook: an SViTAdapter has no methods, keep_rates')
        detector = runner.cfg.model
        detector = detector.get('module', detector)  # of a model for test-time augmentation
        own = detector.backbone.get('merging')
        self._columns = mergings_to_compare(own, self.methods, self.keep_rates, selects)
        for merging in filter(None, self._columns.values()):
            with merging_by(backbone, merging):
                pass  # what the backbone refuses is told now, not after an epoch

    def before_val_epoch(self, runner: Runner) -> None:
        self._drawn = 0

    before_test_epoch = before_val_epoch

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._draw_batch(runner, data_batch, runner.val_loop.fp16)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._draw_batch(runner, data_batch, runner.test_loop.fp16)

    def _draw_batch(self, runner: Runner, batch: dict[str, Any], fp16: bool) -> None:
        if not self.draw or self._drawn >= self.num_images or not is_main_process():
            return
        if isinstance(batch['data_samples'][0], (list, tuple)):
            # Test-time augmentation: mirrored views come first.
            batch = {key: views[-1] for key, views in batch.items()}
        model = unwrapped(runner)
        with autocast(enabled=fp16):
            columns = compare_clusters(model, batch, self._columns)
        samples = batch['data_samples'][: self.num_images - self._drawn]
        for sample, clusters in zip(samples, columns):
            picture = draw_cluster_grid(clusters, self.cell)
            name = f'clusters_{self._drawn}_{Path(sample.get("img_path") or "").stem}'
            runner.visualizer.add_image(name, picture, runner.iter)
            self._drawn += 1
