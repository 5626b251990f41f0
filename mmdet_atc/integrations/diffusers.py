"""Token merging around self-attention in diffusers' UNets, patched in one line and undone in one.

    from mmdet_atc.integrations.diffusers import apply_merging

    pipe = StableDiffusionPipeline.from_pretrained('stable-diffusion-v1-5/stable-diffusion-v1-5')
    apply_merging(pipe, dict(linkage='average'), keep_rate=0.5)

No forward of diffusers is copied: hooks cluster what a ``BasicTransformerBlock`` is given, merge
what its ``attn1`` is given and give ``attn1``'s result back to all tokens (Haurum et al., ECCV
2024, section 4.3; ToMe for Stable Diffusion, Bolya and Hoffman, CVPRW 2023).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmdet_atc.arguments import check_counts, check_shares
from mmdet_atc.merging import BipartiteMerging, TokenClusters, TokenMerger, build_merger
from mmdet_atc.merging.bipartite import match_in_squares

from .override import Override, is_compiled, one_pass_of

Model = TypeVar('Model')


def apply_merging(
    pipe_or_unet: Model, merging: dict | TokenMerger, keep_rate: float, max_downsample: int = 1
) -> Model:
    """Merge tokens before each self-attention from now on and copy its result to all of them.

    Clusters are made of a block's input, each image and each half of the guidance by itself, anew
    in every step. Queries, keys and values are plain means. After a forward pass
    ``unet.token_clusters`` holds one :class:`~mmdet_atc.merging.TokenClusters` per block that
    merged, in the order in which they ran. On a patched UNet this replaces the merging. Patch
    before ``torch.compile``.

    Args:
        pipe_or_unet (Model): A pipeline with a ``unet``, or a module with
            ``BasicTransformerBlock`` in it.
        merging (dict | TokenMerger): A token merger or its config without a ``keep_rate``.
            ``BipartiteMerging`` is ToMe for Stable Diffusion: one destination in each 2 x 2
            tokens, the upper left one; at most 3/4 of the tokens go.
        keep_rate (float): Share of the tokens that stays, in (0, 1]: of N tokens,
            ``int(N * (1 - keep_rate))`` go.
        max_downsample (int): Blocks merge where their resolution is at most this much below the
            UNet's input. 1 is full resolution alone, where SDXL has no attention. Default: 1.

    Returns:
        Model: ``pipe_or_unet`` itself.

    Raises:
        ValueError: If there is no self-attention, the UNet is compiled or an argument does not
            fit; the model is then unchanged.
    """
    check_counts(max_downsample=max_downsample)
    check_shares(keep_rate=keep_rate)
    if isinstance(merging, dict) and 'keep_rate' in merging:
        raise ValueError('keep_rate is an argument of apply_merging: leave it out of merging')
    merger = build_merger(merging)
    if merger.needs_attention:
        raise ValueError(
            f'{type(merger).__name__} ranks tokens by attention, which they have not yet had where '
            'an image generator merges them'
        )
    unet = _unet(pipe_or_unet)
    for module in unet.modules():
        name = type(module).__name__
        if 'Motion' in name or 'Temporal' in name:
            raise ValueError(
                f'{type(unet).__name__} makes videos: its {name} attends over frames, which are '
                'not to be merged'
            )
    blocks = [
        module
        for module in unet.modules()
        if isinstance(module, BasicTransformerBlock) and not module.only_cross_attention
    ]
    if not blocks:
        raise ValueError(
            f'{type(unet).__name__} has no BasicTransformerBlock with self-attention to merge at'
        )
    remove_merging(unet)
    unet.__dict__['_token_merging'] = _Merging(unet, blocks, merger, keep_rate, max_downsample)
    return pipe_or_unet


def remove_merging(pipe_or_unet: Model) -> Model:
    """Undo :func:`apply_merging`; a UNet that is not patched stays as it is.

    Returns:
        Model: ``pipe_or_unet`` itself.
    """
    unet = getattr(pipe_or_unet, 'unet', pipe_or_unet)
    merging = unet.__dict__.pop('_token_merging', None)
    if merging is not None:
        merging.remove()
    return pipe_or_unet


class _Merging:
    """What was put on one UNet, and the state of its current forward pass."""

    def __init__(
        self,
        unet: nn.Module,
        blocks: list[BasicTransformerBlock],
        merger: TokenMerger,
        keep_rate: float,
        max_downsample: int,
    ) -> None:
        self.unet = cast(Any, unet)  # which declares no token_clusters
        self.merger = merger
        self.keep_rate = keep_rate
        self.max_downsample = max_downsample
        self.size: tuple[int, int] | None = None
        self.merged: list[TokenClusters] = []
        self.warned = False
        self.unet.token_clusters = ()
        self.handles: list[Override | RemovableHandle] = []
        for block in blocks:
            self.handles += _MergingBlock(self).hooks(block)
        self.handles.append(Override(unet, 'forward', self.run))

    def remove(self) -> None:
        for handle in reversed(self.handles):
            handle.remove()
        del self.unet.token_clusters

    def run(self, forward: Callable, *args: Any, **kwargs: Any) -> Any:
        """The UNet's forward; sets its ``token_clusters``."""
        name = 'sample' if 'sample' in kwargs else 'hidden_states'
        sample = args[0] if args else kwargs[name]
        with one_pass_of(self.unet):
            # A block alone is given its tokens, (B, N, C): those of a square.
            self.size = tuple(sample.shape[-2:]) if sample.ndim == 4 else None
            self.merged = []
            out = forward(*args, **kwargs)
            self.unet.token_clusters = tuple(self.merged)
            self.merged = []
        if not self.unet.token_clusters and not self.warned:
            self.warned = True
            warnings.warn(
                f'no block of {type(self.unet).__name__} attends at max_downsample='
                f'{self.max_downsample} or above: nothing was merged',
                stacklevel=2,
            )
        return out

    def cluster(self, tokens: Tensor) -> TokenClusters | None:
        """The clusters of a block's input ``(B, N, C)``, None where it does not merge."""
        batch, num_tokens, _ = tokens.shape
        height, width = self.size or (math.isqrt(num_tokens),) * 2
        if height * width // num_tokens > self.max_downsample**2:
            return None
        count = num_tokens - int(num_tokens * round(1 - self.keep_rate, 9))
        if isinstance(self.merger, BipartiteMerging):
            downsample = math.ceil(math.sqrt(height * width // num_tokens))
            grid = math.ceil(height / downsample), math.ceil(width / downsample)
            squares = (grid[0] // 2) * (grid[1] // 2)
            if not squares:
                return None
            count = max(count, squares)
            labels = match_in_squares(tokens.detach(), count, grid)
        else:
            labels = self.merger.assign(tokens.detach(), count)
        sizes = torch.zeros(batch, count, device=tokens.device)
        sizes.scatter_add_(1, labels, torch.ones_like(labels, dtype=sizes.dtype))
        clusters = TokenClusters(labels, sizes)
        self.merged.append(clusters)
        return clusters


class _MergingBlock:
    """The hooks of one block."""

    def __init__(self, merging: _Merging) -> None:
        self.merging = merging
        self.clusters: TokenClusters | None = None

    def hooks(self, block: BasicTransformerBlock) -> list[Override | RemovableHandle]:
        return [
            Override(block, 'forward', self.run),
            block.attn1.register_forward_pre_hook(self.merge, with_kwargs=True),
            block.attn1.register_forward_hook(self.unmerge),
        ]

    def run(self, forward: Callable, *args: Any, **kwargs: Any) -> Tensor:
        self.clusters = self.merging.cluster(args[0] if args else kwargs['hidden_states'])
        return forward(*args, **kwargs)

    def merge(self, attn1: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self.clusters is None:
            return None
        if args:
            return (self.clusters.merge(args[0]), *args[1:]), kwargs
        return args, {**kwargs, 'hidden_states': self.clusters.merge(kwargs['hidden_states'])}

    def unmerge(self, attn1: nn.Module, args: tuple, out: Tensor) -> Tensor | None:
        if self.clusters is None:
            return None
        clusters, self.clusters = self.clusters, None
        return clusters.unmerge(out)


def _unet(pipe_or_unet: Any) -> nn.Module:
    unet = getattr(pipe_or_unet, 'unet', pipe_or_unet)
    if is_compiled(unet):
        raise ValueError('the UNet is compiled already: call apply_merging before torch.compile')
    if not isinstance(unet, nn.Module):
        raise ValueError(
            f'pipe_or_unet must be a pipeline with a UNet or a UNet, got {type(pipe_or_unet)}'
        )
    return unet
