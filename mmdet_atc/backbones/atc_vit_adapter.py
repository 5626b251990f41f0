"""ViT-Adapter with token merging: ATC (Haurum et al., ECCV 2024) and its baselines."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from mmdet_atc.arguments import check_bools, check_increasing
from mmdet_atc.layers import Block
from mmdet_atc.merging import (
    TokenClusters,
    TokenMerger,
    TokenPlan,
    build_merger,
    build_plan,
    keep_rate_plan,
    padded_patches,
    padded_tokens,
)

from .blocks_of_pass import BlocksOfPass
from .valid_sizes import TakesValidSizes, ValidSizes
from .vit_adapter import Features, ViTAdapter


@MODELS.register_module()
class ATCViTAdapter(ViTAdapter, TakesValidSizes):
    """ViT-Adapter whose ViT runs on merged tokens.

    In each merge block, between self-attention and MLP, tokens are merged by the token merger.
    Injectors and Extractors see the full patch grid: tokens are back-projected to it before them
    and merged again after an Injector.

    Args:
        merging (dict, optional): Config of a token merger in ``TOKEN_MERGERS``, for example
            ``dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5)`` (also where
            ``type`` is left out) or ``dict(type='BipartiteMerging', keep_rate=0.7)``. None merges
            nothing, which is the dense model. Default: None.
        merge_blocks (Sequence[int]): 0-based blocks that merge; 3, 6, 9 are the paper's blocks 4,
            7 and 10. Default: (3, 6, 9).
        plan (TokenPlan | dict, optional): How many clusters each block leaves, see
            :mod:`mmdet_atc.merging.plan`, for example ``dict(type='constant_plan', t=300)``. With
            a plan ``merging`` has no ``keep_rate``, and ``merge_blocks`` is ignored.
            Default: None, the keep rate of ``merging`` in ``merge_blocks``.
        proportional_attn (bool): Whether log(size) of a merged token is added to its key's
            logits. Default: True.
        padding_aware (bool): Whether padding is clustered apart and does not count in the
            picture's share, see :mod:`mmdet_atc.merging.padding`. What is padding is known from
            the detector's samples, or from ``valid_sizes`` of :meth:`forward`.
            Default: False, as the paper.
        **kwargs: Arguments of :class:`ViTAdapter`.

    Raises:
        ValueError: If an argument is out of range; the message names it.

    Examples:
        >>> import torch
        >>> from mmdet_atc.backbones import ATCViTAdapter
        >>> merging = dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5)
        >>> model = ATCViTAdapter(embed_dim=192, num_heads=3, merging=merging).eval()
        >>> features, stages = model.forward_with_clusters(torch.rand(1, 3, 64, 96))
        >>> [stage.num_clusters for stage in stages]
        [12, 6, 3]
    """

    def __init__(
        self,
        merging: dict | None = None,
        merge_blocks: Sequence[int] = (3, 6, 9),
        proportional_attn: bool = True,
        padding_aware: bool = False,
        plan: TokenPlan | dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_bools(proportional_attn=proportional_attn, padding_aware=padding_aware)
        self._own_merge_blocks = merge_blocks
        self.proportional_attn = proportional_attn
        self.padding_aware = padding_aware
        self.set_merging(merging, plan)

    @property
    def merge_blocks(self) -> tuple[int, ...]:
        """The blocks that merge, 0-based; without a merger, those that would."""
        return (
            tuple(self._own_merge_blocks)
            if self.plan is None
            else self.plan.merge_blocks(len(self.blocks))
        )

    @property
    def keep_rates(self) -> dict[int, float]:
        """Keep rate of each block, where such rates are the plan."""
        return dict(zip(self.merge_blocks, getattr(self.plan, 'rates', ()), strict=False))

    def set_merging(self, merging: dict | None, plan: TokenPlan | dict | None = None) -> None:
        """Merge in another way from now on; mergers have no parameters, so weights stay valid.

        Args:
            merging (dict, optional): As the argument of the same name of the class.
            plan (TokenPlan | dict, optional): Likewise. Default: None.

        Raises:
            ValueError: As the class.
        """
        if merging is None:
            if plan is not None:
                raise ValueError(f'plan={plan!r} says how much is merged, but merging is None')
            self.merger: TokenMerger | None = None
            self.plan: TokenPlan | None = None
            return
        padding_aware = self.padding_aware
        if isinstance(merging, dict) and 'padding_aware' in merging:
            merging = {**merging}
            padding_aware = merging.pop('padding_aware')
            check_bools(padding_aware=padding_aware)
            warnings.warn(
                'padding_aware is an argument of the backbone now, not of merging: write '
                f'backbone.padding_aware={padding_aware}',
                FutureWarning,
                stacklevel=3,
            )
        merger = build_merger(merging, planned=plan is not None)
        if plan is None:
            own = self._own_merge_blocks
            if isinstance(own, (list, tuple)) and not own:
                raise ValueError(
                    'merge_blocks must not be empty; merging=None switches merging off'
                )
            check_increasing('block', len(self.blocks) - 1, merge_blocks=own)
            plan = keep_rate_plan(merger.keep_rates(len(own)), own)
        plan = build_plan(plan)
        blocks = plan.merge_blocks(len(self.blocks))
        windowed = [
            i for i in range(min(blocks, default=0), len(self.blocks)) if self.window_sizes[i]
        ]
        if blocks and windowed:
            raise ValueError(
                'window_attn must be False from the first merge block on (merged tokens have no '
                f'grid), but blocks {windowed} are windowed and merge_blocks is {blocks}'
            )
        self.merger, self.plan, self.padding_aware = merger, plan, padding_aware

    def forward(self, image: Tensor, valid_sizes: ValidSizes | None = None) -> Features:
        """Feature maps of a batch of images.

        Args:
            image (Tensor): ``(B, 3, H, W)``, normalised; H and W multiples of 32.
            valid_sizes (Sequence[tuple[int, int]], optional): Height and width in pixels of each
                picture; the rest of ``image``, below and on the right, is padding. Used with
                ``padding_aware``. None is what the samples of the detector's running call say,
                and no padding without a detector or in windows of its images. Default: None.

        Returns:
            tuple[Tensor, ...]: Maps ``(B, embed_dim, H / s, W / s)`` for s = 4, 8, 16, 32.

        Raises:
            ValueError: If H or W is not a multiple of 32, or ``valid_sizes`` are not sizes of
                pictures in ``image``.
            NonFiniteError: If tokens to be clustered are NaN or Inf.
        """
        padding = self._padding(image, valid_sizes)
        if self.captured is None or padding is not None:
            return self._run(image, _MergingBlocks(self, padding))
        merger = self.merger, repr(self.merger and vars(self.merger))
        settings = (*merger, self.plan, self.proportional_attn)
        return self.captured(
            lambda image: self._run(image, _MergingBlocks(self, None)), image, settings
        )

    def forward_with_clusters(
        self, image: Tensor, valid_sizes: ValidSizes | None = None
    ) -> tuple[Features, tuple[TokenClusters, ...]]:
        """:meth:`forward`, and the partition of the patch grid after each merge block.

        Args:
            image (Tensor): As of :meth:`forward`.
            valid_sizes (Sequence[tuple[int, int]], optional): As of :meth:`forward`.

        Returns:
            tuple: The four feature maps, and one :class:`TokenClusters` per merge block.
        """
        blocks = _MergingBlocks(self, self._padding(image, valid_sizes))
        return self._run(image, blocks), blocks.stages

    def _padding(self, image: Tensor, valid_sizes: ValidSizes | None) -> Tensor | None:
        """Which patches are padding, ``(B, N)`` bool; None where that does not matter."""
        if self.merger is None or not self.padding_aware:
            return None
        sizes = valid_sizes
        if sizes is None and self.padded_size_of_call == image.shape[-2:]:
            sizes = self.valid_sizes_of_call
        if sizes is None:
            return None
        if len(sizes) != len(image):
            raise ValueError(
                f'valid_sizes must be one size per image ({len(image)}), got {len(sizes)}'
            )
        height, width = (side // self.patch_size for side in image.shape[-2:])
        return padded_patches(sizes, (height, width), self.patch_size, image.device)


class _MergingBlocks(BlocksOfPass):
    """The blocks of one forward pass, full patch grid in and out; registers are not merged.

    Args:
        backbone (ATCViTAdapter): Whose blocks.
        padding (Tensor, optional): Which patches are padding, ``(B, N)`` bool.

    Attributes:
        stages (tuple[TokenClusters, ...]): The clusters after each merge so far.
        counts (tuple[int | None, ...]): Clusters that each block leaves.
        kept (list[tuple[int | None, ...]]): Likewise for each image's picture without padding.
    """

    backbone: ATCViTAdapter

    def __init__(self, backbone: ATCViTAdapter, padding: Tensor | None) -> None:
        super().__init__(backbone)
        self.padding = padding
        self.stages: tuple[TokenClusters, ...] = ()
        self.counts: tuple[int | None, ...] = ()
        self.kept: list[tuple[int | None, ...]] = []

    def __call__(self, patches: Tensor, indices: range, grid: tuple[int, int]) -> Tensor:
        if not self.counts:
            self._follow_plan(grid[0] * grid[1])
        patches = self.stages[-1].merge(patches) if self.stages else patches
        patches = super().__call__(patches, indices, grid)
        return self.stages[-1].unmerge(patches) if self.stages else patches

    def _follow_plan(self, num_patches: int) -> None:
        plan, merger = self.backbone.plan, self.backbone.merger
        depth = len(self.backbone.blocks)
        self.counts = (None,) * depth if plan is None else plan(depth, num_patches, merger)
        if plan is not None and self.padding is not None:
            pictures = (num_patches - self.padding.sum(1)).tolist()
            self.kept = [plan(depth, count, merger) for count in pictures]

    def run(self, index: int, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        backbone, merger = self.backbone, self.backbone.merger
        block = cast(Block, backbone.blocks[index])
        sizes = self._sizes() if self.stages and backbone.proportional_attn else None
        count = self.counts[index]
        if merger is None or count is None:
            return block(tokens, grid, sizes)
        attention = block.received_attention(tokens, sizes) if merger.needs_attention else None
        tokens, keys = block.attend(tokens, grid, sizes, need_keys=True)
        assert keys is not None
        first = backbone.num_registers  # of the patches
        clusters = (
            self.stages[-1]
            if self.stages
            else TokenClusters.identity(tokens.shape[0], tokens.shape[1] - first, tokens.device)
        )
        beside = None
        if self.padding is not None:
            padded = padded_tokens(clusters, self.padding)
            beside = padded, [counts[index] or 0 for counts in self.kept]
        patches, clusters = merger.merge_to(
            tokens[:, first:],
            keys[:, first:],
            clusters,
            count,
            attention=None if attention is None else attention[:, first:],
            beside=beside,
        )
        self.stages = (*self.stages, clusters)
        tokens = torch.cat([tokens[:, :first], patches], dim=1) if first else patches
        return block.feed_forward(tokens)

    def _sizes(self) -> Tensor:
        """Patches per token, ``(B, R + K)``; a register counts as one."""
        sizes, first = self.stages[-1].sizes, self.backbone.num_registers
        return F.pad(sizes, (first, 0), value=1.0) if first else sizes
