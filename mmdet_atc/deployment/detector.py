"""A detector as one function of tensors: from pixels to boxes, labels, scores and masks."""

from __future__ import annotations

import copy

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.necks import FPN
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from torch import Tensor, nn

from mmdet_atc.backbones import ATCViTAdapter, SViTAdapter, ViTAdapter
from mmdet_atc.engine.private import normalises, turns_channels

from .regions import clipped, kept_by_nms, rank_in_image, region_features, top

#: What is found in a batch, image by image, each image's by falling score:
#: ``boxes`` as (x1, y1, x2, y2) in pixels of the input ``(N, 4)`` float32; ``scores (N,)``;
#: ``labels (N,)`` int64; ``masks``, the probability in each cell of a grid over the box,
#: ``(N, M, M)``, ``(N, 0, 0)`` of a detector without them; ``images``, the place of the image in
#: the batch, ``(N,)`` int64.
Detections = dict[str, Tensor]
OUTPUTS = ('boxes', 'scores', 'labels', 'masks', 'images')


class TraceableDetector(nn.Module):
    """Faster or Mask R-CNN on a ViT-Adapter, with the modules of MMDetection's model.

    What MMDetection's heads do with boxes in Python is done here in forms that torch can trace;
    they give the same, up to the order of detections whose scores are equal.

    Args:
        model (TwoStageDetector): In evaluation mode; its modules are shared.

    Raises:
        ValueError: If a part of the model is of a kind that has no traceable form; the message
            names it.
    """

    def __init__(self, model: TwoStageDetector) -> None:
        super().__init__()
        _check(model)
        self.preprocessor = model.data_preprocessor
        self.backbone = model.backbone
        self.neck = copy.copy(model.neck)
        # FPN's pooling has other rules for odd and even sizes where they are symbols.
        self.num_halved = 0 if self.neck.add_extra_convs else self.neck.num_outs - self.neck.num_ins
        self.neck.num_outs -= self.num_halved
        self.rpn_head = model.rpn_head
        self.roi_head = model.roi_head

    @torch.no_grad()
    def forward(self, pixels: Tensor, sizes: Tensor) -> Detections:
        """Detect.

        Args:
            pixels (Tensor): Pictures in their upper left corners, ``(B, 3, H, W)`` uint8, RGB; H
                and W multiples of 32.
            sizes (Tensor): Height and width of each picture, ``(B, 2)`` int64; the rest of its
                pixels does not count.

        Returns:
            Detections: What scores above the threshold of the model's ``test_cfg``.
        """
        maps = self._maps(self.normalised(pixels, sizes))
        extent = torch.sym_max(pixels.shape[2], pixels.shape[3])
        proposals, is_proposal = self._proposals(maps, sizes, extent)
        return self._detections(maps, proposals, is_proposal, sizes, extent)

    def normalised(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """What the model's preprocessor makes of the pictures, ``(B, 3, H, W)`` float32."""
        given = self.preprocessor
        rows, cols = (torch.arange(side, device=pixels.device) for side in pixels.shape[2:])
        is_inside = (rows < sizes[:, :1])[:, :, None] & (cols < sizes[:, 1:])[:, None]
        # Pipelines read BGR: a model that has it turned around wants RGB.
        image = pixels if turns_channels(given) else pixels.flip(1)
        image = image.float()
        if normalises(given):
            image = (image - given.mean) / given.std
        return torch.where(is_inside[:, None], image, float(given.pad_value))

    def _maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """The levels of the FPN, ``(B, C, H / s, W / s)`` each."""
        maps = list(self.neck(self.backbone(image)))
        for _ in range(self.num_halved):
            maps.append(maps[-1][:, :, ::2, ::2].contiguous())
        return tuple(maps)

    def _proposals(
        self, maps: tuple[Tensor, ...], sizes: Tensor, extent: int
    ) -> tuple[Tensor, Tensor]:
        """The RPN's regions of each image, ``(B, K, 4)``, and which of them there are."""
        head, cfg = self.rpn_head, self.rpn_head.test_cfg
        scores, deltas = head(maps)
        priors = head.prior_generator.grid_priors(
            [score.shape[-2:] for score in scores], scores[0].dtype, scores[0].device
        )
        found = [
            self._best_of_level(*level, sizes) for level in zip(scores, deltas, priors, strict=True)
        ]
        batch = sizes.shape[0]
        boxes, best = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        lengths = boxes[..., 2:] - boxes[..., :2]
        smallest = cfg.get('min_bbox_size', -1)
        is_there = (best >= 0) & (lengths > smallest).all(dim=2)
        levels = torch.arange(len(maps), device=best.device).repeat_interleave(cfg.nms_pre)
        levels = levels.expand(batch, -1).flatten()
        images = _numbered(batch, boxes.shape[1], best.device)
        # Boxes without area suppress no others; they are left out afterwards.
        flat = boxes.flatten(0, 1), best.flatten()
        kept = kept_by_nms(*flat, levels, images, cfg.nms.iou_threshold, extent)
        kept = kept[is_there.flatten()[kept]]
        count = cfg.max_per_img
        rank = rank_in_image(images[kept], batch)
        # Everything beyond an image's share goes to one more place behind all.
        place = torch.where(rank < count, images[kept] * count + rank, batch * count)
        slots = kept.new_full((batch * count + 1,), -1)
        slots[place] = kept
        slots = slots[:-1]
        chosen = flat[0][slots.clamp(min=0)] * (slots >= 0)[:, None]
        return chosen.unflatten(0, (batch, count)), (slots >= 0).unflatten(0, (batch, count))

    def _best_of_level(
        self, score: Tensor, delta: Tensor, priors: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Boxes ``(B, P, 4)`` and scores ``(B, P)`` that the RPN looks at on a level."""
        head, batch = self.rpn_head, score.shape[0]
        score = score.permute(0, 2, 3, 1).reshape(batch, -1, head.cls_out_channels)
        score = (
            score.sigmoid() if head.use_sigmoid_cls else score.softmax(dim=-1)[..., :-1]
        ).squeeze(2)
        best, index = top(score, head.test_cfg.nms_pre)
        delta = delta.permute(0, 2, 3, 1).reshape(batch, -1, 4)
        delta = delta.gather(1, index[..., None].expand(-1, -1, 4))
        boxes = head.bbox_coder.decode(priors[index.flatten()], delta.flatten(0, 1))
        return clipped(boxes.unflatten(0, (batch, -1)), sizes), best

    def _detections(
        self,
        maps: tuple[Tensor, ...],
        proposals: Tensor,
        is_proposal: Tensor,
        sizes: Tensor,
        extent: int,
    ) -> Detections:
        head, cfg = self.roi_head.bbox_head, self.roi_head.test_cfg
        batch, count = is_proposal.shape
        images = _numbered(batch, count, proposals.device)
        regions = _with_image(images, proposals.flatten(0, 1))
        extractor = self.roi_head.bbox_roi_extractor
        features = region_features(extractor, maps[: extractor.num_inputs], regions)
        if self.roi_head.with_shared_head:
            features = self.roi_head.shared_head(features)
        logits, deltas = head(features)
        scores = logits.softmax(dim=-1)[:, :-1]
        num_classes = scores.shape[1]
        of_class = 1 if head.reg_class_agnostic else num_classes
        boxes = head.bbox_coder.decode(
            regions[:, 1:].repeat_interleave(of_class, dim=0), deltas.reshape(-1, 4)
        )
        boxes = clipped(boxes.reshape(batch, -1, 4), sizes).reshape(-1, of_class, 4)
        region, label = torch.where((scores > cfg.score_thr) & is_proposal.flatten()[:, None])
        score, image = scores[region, label], images[region]
        box = boxes[region, 0 if head.reg_class_agnostic else label]
        kept = kept_by_nms(box, score, label, image, cfg.nms.iou_threshold, extent)
        kept = kept[rank_in_image(image[kept], batch) < cfg.max_per_img]
        # Image by image; what is kept is in the order of scores.
        kept = kept[image[kept].argsort(stable=True)]
        box, label, image = box[kept], label[kept], image[kept]
        masks = self._masks(maps, _with_image(image, box), label)
        return dict(zip(OUTPUTS, (box, score[kept], label, masks, image), strict=True))

    def _masks(self, maps: tuple[Tensor, ...], regions: Tensor, labels: Tensor) -> Tensor:
        if not self.roi_head.with_mask:
            return regions.new_zeros(regions.shape[0], 0, 0)
        extractor = self.roi_head.mask_roi_extractor
        features = region_features(extractor, maps[: extractor.num_inputs], regions)
        logits = self.roi_head.mask_head(features)
        if self.roi_head.mask_head.class_agnostic:
            return logits[:, 0].sigmoid()
        side = logits.shape[-1]
        index = labels[:, None, None, None].expand(-1, 1, side, side)
        return logits.gather(1, index).squeeze(1).sigmoid()


def _numbered(batch: int, each: int, device: torch.device) -> Tensor:
    """The image of each of ``each`` things of all images, one image after another."""
    return torch.arange(batch, device=device)[:, None].expand(-1, each).flatten()


def _with_image(images: Tensor, boxes: Tensor) -> Tensor:
    return torch.cat([images.to(boxes.dtype)[:, None], boxes], dim=1)


#: Parts of a detector, and the kinds that have a traceable form.
_KINDS: dict[str, type] = {
    'backbone': ViTAdapter,
    'neck': FPN,
    'rpn_head': RPNHead,
    'rpn_head.prior_generator': AnchorGenerator,
    'rpn_head.bbox_coder': DeltaXYWHBBoxCoder,
    'roi_head': StandardRoIHead,
    'roi_head.bbox_roi_extractor': SingleRoIExtractor,
    'roi_head.bbox_head': ConvFCBBoxHead,
    'roi_head.bbox_head.bbox_coder': DeltaXYWHBBoxCoder,
    'roi_head.mask_roi_extractor': SingleRoIExtractor,
    'roi_head.mask_head': FCNMaskHead,
}


def _check(model: nn.Module) -> None:
    if not isinstance(model, TwoStageDetector):
        raise ValueError(
            f'export takes Faster and Mask R-CNN (TwoStageDetector), got {type(model).__name__}'
        )
    for name, kind in _KINDS.items():
        if 'mask' in name and not model.roi_head.with_mask:
            continue
        part = model
        for step in name.split('.'):
            part = getattr(part, step, None)
        if not isinstance(part, kind):
            raise ValueError(f'export takes a {kind.__name__} as {name}, got {type(part).__name__}')
    if isinstance(model.backbone, SViTAdapter):
        raise ValueError(
            'backbone SViTAdapter cannot be exported: how many tokens its blocks process depends '
            'on the image'
        )
    if isinstance(model.backbone, ATCViTAdapter) and model.backbone.padding_aware:
        raise ValueError(
            'backbone.padding_aware cannot be exported: how many tokens are left would depend on '
            'the padding; set it to False'
        )
    if model.roi_head.bbox_head.custom_cls_channels:
        raise ValueError('export takes a softmax in roi_head.bbox_head, got a loss_cls of its own')
    for name, cfg in (('rpn', model.test_cfg.rpn), ('rcnn', model.test_cfg.rcnn)):
        found = {key: value for key, value in cfg.nms.items() if key != 'iou_threshold'}
        if found != dict(type='nms'):
            raise ValueError(
                f"export takes dict(type='nms', iou_threshold=...) as test_cfg.{name}.nms, "
                f'got {dict(cfg.nms)}'
            )
