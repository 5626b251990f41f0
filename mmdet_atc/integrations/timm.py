"""Token merging in any Vision Transformer of timm, patched in one line and undone in one.

    from mmdet_atc.integrations.timm import apply_merging
    from mmdet_atc.merging import keep_rate_plan

    model = timm.create_model('deit_small_patch16_224', pretrained=True)
    apply_merging(model, dict(linkage='average'), keep_rate_plan(0.5, of='initial'))

No forward of timm is copied. In a merging block tokens are merged where ``norm2`` reads them, its
MLP branch is caught where ``drop_path2`` returns it, and the block's result is the sum of both.
Attention runs as it is, with log(size) added where it calls PyTorch's attention or softmax. What
this relies on is written down in ``tests/integrations/test_timm_internals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from mmdet_atc.arguments import check_bools
from mmdet_atc.merging import (
    TokenClusters,
    TokenMerger,
    TokenPlan,
    build_merger,
    build_plan,
    proportional_attention,
    received_attention,
)
from mmdet_atc.merging.segments import take_rows

from .override import Override, is_compiled, one_pass_of


def apply_merging(
    model: VisionTransformer,
    merging: dict | TokenMerger,
    plan: TokenPlan | dict,
    proportional_attn: bool = True,
    size_weighted: bool | None = None,
) -> VisionTransformer:
    """Merge tokens in a timm ViT from now on; its weights and state-dict keys stay as they are.

    Class token, distillation token and registers are never merged. ``forward_features`` gives all
    patches: each the final token of its cluster, so that average pooling is weighted by size.
    ``forward_intermediates`` gives all patches after every block, and so does a ``features_only``
    model of timm, whose ``.model`` is what to patch. After a forward pass ``model.token_clusters``
    holds one :class:`~mmdet_atc.merging.TokenClusters` per merging block. On a patched model
    this replaces the merging. Patch before ``torch.compile``. With gradient checkpointing run
    the backward pass before the next forward pass.

    Args:
        model (VisionTransformer): Any of timm's, in training or evaluation.
        merging (dict | TokenMerger): A token merger or its config without a ``keep_rate``, for
            example ``dict(type='AgglomerativeMerging', linkage='average')``.
        plan (TokenPlan | dict): How many clusters each block leaves, see
            :mod:`mmdet_atc.merging.plan`. The keep rate of a ``TokenMerger`` is ignored.
        proportional_attn (bool): Whether log(size) of a merged token is added to its key's
            logits. The authors' MAE models do without. Default: True.
        size_weighted (bool, optional): Whether merged tokens count in later merges by their size.
            None is as the authors' code: yes, but not in a plan of keep rates of the initial
            tokens without proportional attention. Default: None.

    Returns:
        VisionTransformer: ``model`` itself.

    Raises:
        ValueError: If the model is none of these or compiled, or an argument does not fit; the
            model is then unchanged.

    Examples:
        >>> import timm, torch
        >>> from mmdet_atc.merging import keep_rate_plan
        >>> model = timm.create_model('vit_tiny_patch16_224').eval()
        >>> plan = keep_rate_plan(0.5, of='initial')
        >>> logits = apply_merging(model, dict(linkage='average'), plan)(torch.rand(1, 3, 224, 224))
        >>> [clusters.num_clusters for clusters in model.token_clusters]
        [98, 49, 24]
        >>> remove_merging(model)(torch.rand(1, 3, 224, 224)).shape
        torch.Size([1, 1000])
    """
    check_bools(proportional_attn=proportional_attn)
    merger = build_merger(merging, planned=True)
    _check_model(model)
    plan = build_plan(plan)
    blocks = plan.merge_blocks(len(model.blocks))
    plan(len(model.blocks), model.patch_embed.num_patches, merger)
    if size_weighted is None:
        size_weighted = proportional_attn or not getattr(plan, 'drops_sizes', False)
    check_bools(size_weighted=size_weighted)
    remove_merging(model)
    model.__dict__['_token_merging'] = _Merging(
        model, merger, plan, blocks, proportional_attn, size_weighted
    )
    return model


def remove_merging(model: VisionTransformer) -> VisionTransformer:
    """Undo :func:`apply_merging`; a model that is not patched stays as it is.

    Returns:
        VisionTransformer: ``model`` itself.
    """
    merging = model.__dict__.pop('_token_merging', None)
    if merging is not None:
        merging.remove(model)
    return model


class _Merging:
    """What was put on one model, and the state of its current forward pass."""

    def __init__(
        self,
        model: VisionTransformer,
        merger: TokenMerger,
        plan: TokenPlan,
        blocks: tuple[int, ...],
        proportional_attn: bool,
        size_weighted: bool,
    ) -> None:
        self.model = cast(Any, model)  # which declares no token_clusters
        self.merger = merger
        self.plan = plan
        self.depth = len(model.blocks)
        self.num_prefix = model.num_prefix_tokens
        self.has_class_token = model.cls_token is not None
        self.proportional_attn = proportional_attn
        self.size_weighted = size_weighted
        self.counts: tuple[int | None, ...] = ()
        self.handles: list[Override | RemovableHandle] = []
        self.merging_blocks: list[_MergingBlock] = []
        self.model.token_clusters = ()
        #: Whether every block gives all patches, as forward_intermediates collects them.
        self.all_patches = False
        for index, block in enumerate(cast(Iterable[Block], model.blocks)):
            attn: Any = block.attn
            before = self.merging_blocks[-1] if self.merging_blocks else None
            if before is not None and proportional_attn:
                self.handles.append(Override(attn, 'forward', before.attend_after))
            if index in blocks:
                merging_block = _MergingBlock(self, index, before)
                self.merging_blocks.append(merging_block)
                self.handles += merging_block.hooks(block)
            elif before is not None:
                self.handles.append(Override(block, 'forward', before.run_after))
        self.handles += [
            Override(model, 'forward_features', self.features),
            Override(model, 'forward_intermediates', self.intermediates),
        ]

    def remove(self, model: VisionTransformer) -> None:
        for handle in self.handles:
            handle.remove()
        del model.token_clusters

    def features(self, forward: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """The model's forward_features; each patch gets its cluster's token."""
        with one_pass_of(self.model):
            self.begin()
            tokens = forward(*args, **kwargs)
            left = self.record()
        return self.unmerge(tokens, left[-1].clusters) if left else tokens

    def intermediates(self, forward: Callable, *args: Any, **kwargs: Any) -> Any:
        """The model's forward_intermediates, in which all blocks give all patches."""
        with one_pass_of(self.model):
            self.begin()
            self.all_patches = True
            try:
                return forward(*args, **kwargs)
            finally:
                self.all_patches = False
                self.record()

    def begin(self) -> None:
        for block in self.merging_blocks:
            block.clusters = None

    def record(self) -> list[_MergingBlock]:
        """Set the model's ``token_clusters`` to those of the blocks that ran, and return these."""
        left = [block for block in self.merging_blocks if block.clusters is not None]
        self.model.token_clusters = tuple(
            block.clusters for block in left if self.counts[block.index] is not None
        )
        return left

    def unmerge(self, tokens: Tensor, clusters: TokenClusters | None) -> Tensor:
        """From a token per cluster to one per patch, behind the prefix."""
        if clusters is None or clusters.num_clusters == clusters.labels.shape[1]:
            return tokens
        prefix, merged = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        return torch.cat([prefix, clusters.unmerge(merged)], dim=1)

    def merge_again(self, tokens: Tensor, clusters: TokenClusters | None) -> Tensor:
        """Undo :meth:`unmerge`, to the bit."""
        if clusters is None or clusters.num_clusters == clusters.labels.shape[1]:
            return tokens
        labels = clusters.labels
        batch, num_patches = labels.shape
        positions = torch.arange(num_patches, device=labels.device).expand(batch, -1)
        first = labels.new_full((batch, clusters.num_clusters), num_patches)
        first = first.scatter_reduce(1, labels, positions, 'amin')
        prefix, patches = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        return torch.cat([prefix, take_rows(patches, first)], dim=1)


class _MergingBlock:
    """The hooks of a block that merges."""

    def __init__(self, merging: _Merging, index: int, before: _MergingBlock | None) -> None:
        self.merging = merging
        self.index = index
        self.before = before
        #: The clusters that this block left in the last forward pass.
        self.clusters: TokenClusters | None = None
        self.queries: Tensor | None = None
        self.keys: Tensor | None = None
        self.merged: Tensor | None = None
        self.mlp_branch: Tensor | None = None

    def hooks(self, block: Block) -> list[Override | RemovableHandle]:
        attn: Any = block.attn
        handles: list[Override | RemovableHandle] = [
            attn.k_norm.register_forward_hook(self.keep_keys),
            block.norm2.register_forward_pre_hook(self.merge),
            block.drop_path2.register_forward_hook(self.catch_mlp_branch),
            Override(block, 'forward', self.run),
        ]
        if self.merging.merger.needs_attention:
            handles.append(attn.q_norm.register_forward_hook(self.keep_queries))
        return handles

    def keep_keys(self, k_norm: nn.Module, args: tuple[Tensor], keys: Tensor) -> None:
        self.keys = keys.detach()

    def keep_queries(self, q_norm: nn.Module, args: tuple[Tensor], queries: Tensor) -> None:
        self.queries = queries.detach()

    def merge(self, norm2: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        """Between attention and MLP: merge what ``norm2`` reads."""
        tokens, keys, queries = args[0], self.keys, self.queries
        self.keys = self.queries = self.merged = None
        merging, num_prefix = self.merging, self.merging.num_prefix
        num_tokens = tokens.shape[1] - num_prefix
        clusters = None if self.before is None else self.before.clusters
        if clusters is None:
            clusters = TokenClusters.identity(len(tokens), num_tokens, tokens.device)
            merging.counts = merging.plan(merging.depth, num_tokens, merging.merger)
        self.clusters = clusters
        count = merging.counts[self.index]
        if count is None or count == num_tokens:
            return None
        assert keys is not None
        metric = keys[:, :, num_prefix:].to(torch.promote_types(keys.dtype, torch.float32)).mean(1)
        attention = None
        if merging.merger.needs_attention:
            assert queries is not None
            attention = self.attention(queries, keys, clusters.sizes)
        merged, self.clusters = merging.merger.merge_to(
            tokens[:, num_prefix:],
            metric,
            clusters,
            count,
            attention=attention,
            size_weighted=merging.size_weighted,
        )
        self.merged = torch.cat([tokens[:, :num_prefix], merged], dim=1)
        return (self.merged,)

    def attention(self, queries: Tensor, keys: Tensor, sizes: Tensor) -> Tensor:
        """Mean attention that each patch token gets from the class token, or else from all."""
        merging = self.merging
        all_sizes = _with_prefix(sizes, merging.num_prefix) if merging.proportional_attn else None
        if merging.has_class_token:
            queries = queries[:, :, :1]
        return received_attention(queries, keys, all_sizes)[:, merging.num_prefix :]

    def catch_mlp_branch(
        self, drop_path2: nn.Module, args: tuple[Tensor], branch: Tensor
    ) -> Tensor | None:
        """The branch fits the merged tokens alone: the block's own sum becomes meaningless."""
        if self.merged is None:
            return None
        self.mlp_branch = branch
        return branch.new_zeros(())

    def run(self, forward: Callable, tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """This block: the merged tokens and their MLP branch in place of what it returns."""
        _check_no_mask(*args, *kwargs.values())
        merging = self.merging
        if merging.all_patches and self.before is not None:
            tokens = merging.merge_again(tokens, self.before.clusters)
        out = forward(tokens, *args, **kwargs)
        if self.merged is not None:
            assert self.mlp_branch is not None
            out = self.merged + self.mlp_branch
            self.merged = self.mlp_branch = None
        return merging.unmerge(out, self.clusters) if merging.all_patches else out

    def run_after(self, forward: Callable, tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """A block that does not merge, after this one."""
        _check_no_mask(*args, *kwargs.values())
        merging = self.merging
        if not merging.all_patches:
            return forward(tokens, *args, **kwargs)
        out = forward(merging.merge_again(tokens, self.clusters), *args, **kwargs)
        return merging.unmerge(out, self.clusters)

    def attend_after(self, forward: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """The attention of a block after this one: log(size) is added to each key's logits."""
        clusters = self.clusters
        if clusters is None or clusters.num_clusters == clusters.labels.shape[1]:
            return forward(*args, **kwargs)
        with _SizesInAttention(_with_prefix(clusters.sizes, self.merging.num_prefix)):
            return forward(*args, **kwargs)


class _SizesInAttention(TorchFunctionMode):
    """Adds log(sizes) to the logits of every attention inside, fused or not."""

    def __init__(self, sizes: Tensor) -> None:
        super().__init__()
        self.sizes = sizes

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self.attention(*args, **kwargs)
        if func is Tensor.softmax:
            return func(args[0] + self.sizes.log().to(args[0].dtype)[:, None, None], **kwargs)
        return func(*args, **kwargs)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        _check_no_mask(attn_mask, is_causal)
        return proportional_attention(q, k, v, self.sizes, dropout_p)


def _check_no_mask(*masks: Tensor | bool | None) -> None:
    if any(mask is not None and mask is not False for mask in masks):
        raise ValueError('attn_mask and is_causal do not go with merged tokens')


def _with_prefix(sizes: Tensor, num_prefix: int) -> Tensor:
    """Sizes of all tokens: those before the patches are of size one."""
    return F.pad(sizes, (num_prefix, 0), value=1.0)


def _check_model(model: Any) -> None:
    if is_compiled(model):
        raise ValueError('model is compiled already: call apply_merging before torch.compile')
    if not isinstance(model, VisionTransformer):
        raise ValueError(
            f'model must be a VisionTransformer of timm, got {type(model).__module__}.'
            f'{type(model).__name__}'
        )
    for index, block in enumerate(model.blocks):
        if not isinstance(block, Block) or not hasattr(getattr(block, 'attn', None), 'k_norm'):
            raise ValueError(
                f'block {index} of the model is a {type(block).__name__}, not a timm Block with '
                'pre-normalised attention and MLP one after the other'
            )
