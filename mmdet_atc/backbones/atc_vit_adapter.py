"""ViT-Adapter with token merging: ATC (Haurum et al., ECCV 2024) and its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mmdet.registry import MODELS
from torch import Tensor

from mmdet_atc.arguments import check_bools
from mmdet_atc.layers import Block
from mmdet_atc.merging import (
    AttentionTokenMerger,
    TokenClusters,
    TokenMerger,
    assign_beside_padding,
    build_merger,
    padded_patches,
)

from .block_layout import checked_merge_blocks
from .vit_adapter import Features, ViTAdapter


@MODELS.register_module()
class ATCViTAdapter(ViTAdapter):
    """ViT-Adapter whose ViT runs on merged tokens.

    In each merge block, between self-attention and MLP, tokens are merged by the token merger.
    Injectors and Extractors see the full patch grid: tokens are back-projected to it before them
    and merged again after an Injector.

    Args:
        merging (dict, optional): Config of a token merger in ``TOKEN_MERGERS``, for example
            ``dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5)`` (also where
            ``type`` is left out) or ``dict(type='BipartiteMerging', keep_rate=0.7)``. None merges
            nothing, which is the dense model. ``padding_aware=True`` clusters padding apart.
            Default: None.
        merge_blocks (Sequence[int]): 0-based blocks that merge; 3, 6, 9 are the paper's blocks 4,
            7 and 10. Default: (3, 6, 9).
        proportional_attn (bool): Whether log(size) of a merged token is added to its key's
            logits. Default: True.
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
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_bools(proportional_attn=proportional_attn)
        blocks = checked_merge_blocks(merge_blocks, len(self.blocks))
        self.proportional_attn = proportional_attn
        self.merge_blocks = blocks
        self.set_merging(merging)

    def set_merging(self, merging: dict | None) -> None:
        """Merge in another way from now on; mergers have no parameters, so weights stay valid.

        Args:
            merging (dict, optional): As the argument of the same name of the class.

        Raises:
            ValueError: As the class.
        """
        blocks = self.merge_blocks
        self.merger: TokenMerger | None = None
        self.keep_rates: dict[int, float] = {}
        if merging is None:
            return
        windowed = [i for i in range(blocks[0], len(self.blocks)) if self.window_sizes[i]]
        if windowed:
            raise ValueError(
                'window_attn must be False from the first merge block on (merged tokens have no '
                f'grid), but blocks {windowed} are windowed and merge_blocks is {blocks}'
            )
        self.merger = build_merger(merging)
        self.keep_rates = dict(zip(blocks, self.merger.keep_rates(len(blocks)), strict=True))

    def forward_with_clusters(self, image: Tensor) -> tuple[Features, tuple[TokenClusters, ...]]:
        """:meth:`forward`, and the partition of the patch grid after each merge block.

        Args:
            image (Tensor): ``(B, 3, H, W)``, normalised; H and W multiples of 32.

        Returns:
            tuple: The four feature maps, and one :class:`TokenClusters` per merge block.
        """
        return self._run(image)

    def _padding(self, image: Tensor) -> Tensor | None:
        if self.merger is None or not self.merger.padding_aware:
            return None
        return padded_patches(image, self.patch_size)

    def _run_blocks(
        self,
        patches: Tensor,
        indices: range,
        grid: tuple[int, int],
        stages: tuple[TokenClusters, ...],
        padding: Tensor | None = None,
    ) -> tuple[Tensor, tuple[TokenClusters, ...]]:
        if not stages and not any(index in self.keep_rates for index in indices):
            return super()._run_blocks(patches, indices, grid, stages, padding)
        tokens = stages[-1].merge(patches) if stages else patches
        for index in indices:
            block = cast(Block, self.blocks[index])
            sizes = stages[-1].sizes if stages and self.proportional_attn else None
            if index not in self.keep_rates:
                tokens = block(tokens, grid, sizes)
                continue
            attention = (
                block.received_attention(tokens, sizes)
                if isinstance(self.merger, AttentionTokenMerger)
                else None
            )
            tokens, keys = block.attend(tokens, grid, sizes, need_keys=True)
            clusters = (
                stages[-1]
                if stages
                else TokenClusters.identity(len(tokens), tokens.shape[1], tokens.device)
            )
            tokens, clusters = self._merge(
                tokens, keys, attention, clusters, self.keep_rates[index], padding
            )
            stages = (*stages, clusters)
            tokens = block.feed_forward(tokens)
        return stages[-1].unmerge(tokens), stages

    def _merge(
        self,
        tokens: Tensor,
        keys: Tensor | None,
        attention: Tensor | None,
        clusters: TokenClusters,
        keep_rate: float,
        padding: Tensor | None,
    ) -> tuple[Tensor, TokenClusters]:
        assert self.merger is not None
        assert keys is not None
        num_tokens = tokens.shape[1]
        num_clusters = self.merger.num_clusters(num_tokens, keep_rate)
        if num_clusters == num_tokens:
            return tokens, clusters
        if padding is not None:
            all_padding = clusters.merge(padding.float().unsqueeze(-1)).squeeze(-1) == 1
            labels = assign_beside_padding(self.merger, keys.detach(), keep_rate, all_padding)
            return clusters.merge_tokens(tokens, labels, num_clusters)
        if attention is None or not isinstance(self.merger, AttentionTokenMerger):
            labels = self.merger.assign(keys.detach(), num_clusters)
            return clusters.merge_tokens(tokens, labels, num_clusters)
        labels = self.merger.assign(keys.detach(), num_clusters, attention)
        weights = self.merger.weights(labels, num_clusters, attention)
        return clusters.merge_tokens(tokens, labels, num_clusters, weights)
