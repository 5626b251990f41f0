"""ViT-Adapter (Chen et al., ICLR 2023): the dense baseline."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import cast

import torch
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mmdet_atc.arguments import (
    check_bools,
    check_choice,
    check_counts,
    check_drop_rate,
    check_finite,
    check_increasing,
    check_ratios,
    check_up_to,
)
from mmdet_atc.checkpoints import CLASSIFIER_KEYS
from mmdet_atc.layers import (
    Block,
    Extractor,
    Injector,
    Interaction,
    LayerNorm,
    MSDeformAttn,
    SpatialPriorModule,
    add_residual,
    as_half,
    coarser_map,
    feature_map,
    finest_map,
    patch_tokens,
)

from .block_layout import groups_of_blocks, windows_per_block
from .blocks_of_pass import BlocksOfPass
from .captured import compiled_forward
from .geometry import Geometry
from .pos_embed import resized_pos_embed
from .pretrained import load_pretrained_vit

#: Maps ``(B, embed_dim, H / s, W / s)`` for s = 4, 8, 16, 32.
Features = tuple[Tensor, ...]
#: Runs some of the blocks on the patch grid: patches ``(B, N, C)``, indices, grid to patches.
RunBlocks = Callable[[Tensor, range, tuple[int, int]], Tensor]


#: Activations of the MLPs, by timm's names.
ACTIVATIONS = ('gelu', 'gelu_tanh', 'quick_gelu')
#: Published models have four to sixteen; more is taken for a mistake.
_MOST_REGISTERS = 64


@MODELS.register_module()
class ViTAdapter(BaseModule):
    """ViT-Adapter backbone with global or windowed attention.

    Args:
        img_size (int): Side of the images that the ViT was pretrained on, in pixels; sets the
            shape of ``pos_embed``. Default: 224.
        patch_size (int): Side of a patch in pixels; the adapter's strides allow 16. Default: 16.
        embed_dim (int): Channels of tokens and output maps. Default: 768.
        depth (int): Number of Transformer blocks. Default: 12.
        num_heads (int): Heads of the self-attention. Default: 12.
        mlp_ratio (float): Hidden channels of the MLPs over ``embed_dim``. Default: 4.
        qkv_bias (bool): Whether query, key and value have a bias. Default: True.
        drop_path_rate (float): Stochastic depth rate of the last block (linear from 0) and of the
            Extractors, in [0, 1). Default: 0.
        layer_scale (bool): Whether blocks have learned channel-wise scales. Default: False.
        pretrain_size (int): Same as ``img_size``, ViT-Adapter's second name of it. Default: 224.
        conv_inplane (int): Channels of the spatial prior module's stem. Default: 64.
        n_points (int): Sampling points of the deformable attention. Default: 4.
        deform_num_heads (int): Heads of the deformable attention. Default: 6.
        init_values (float): Initial value of the Injectors' gates. Default: 0.
        interaction_indexes (Sequence[Sequence[int]], optional): First and last block of each
            interaction; together they cover every block once, in order. None is
            [[0, 2], [3, 5], [6, 8], [9, 11]]. Default: None.
        with_cffn (bool): Whether Extractors have a convolutional FFN. Default: True.
        cffn_ratio (float): Hidden channels of that FFN over ``embed_dim``. Default: 0.25.
        deform_ratio (float): Channels of deformable values over ``embed_dim``. Default: 1.
        add_vit_feature (bool): Whether the ViT's features are added to the maps. Default: True.
        vit_features (str): Which of them: ``'last'``, to all maps, as ViT-Adapter detects, or
            ``'each'``, that of the i-th of four interactions to the i-th map, as it segments.
            Weights fit both, so a file does not say which it was trained with. Default: 'last'.
        out_indices (Sequence[int]): Which maps are returned, of 0 (stride 4) to 3 (stride 32), in
            order. Default: (0, 1, 2, 3).
        use_extra_extractor (bool): Whether the last interaction has two more. Default: True.
        window_attn (bool | Sequence[bool]): Which blocks attend in windows. Default: False.
        window_size (int | Sequence[int | None]): Side of the windows in patches; one per block may
            be None where the block attends globally. Default: 14.
        with_cp (bool): Whether activations are recomputed in the backward pass, which saves
            memory. Default: False.
        norm_cfg (dict, optional): Norm of the convolutions and of the outputs. None is batch
            norm, which the runner turns into SyncBN where ``sync_bn='torch'`` and training is
            distributed (the configs' way). Default: None.
        compile (dict, optional): How to run the backbone faster.
            ``dict(mode='reduce-overhead')`` runs inference on a GPU as CUDA graphs, one per padded
            size, of which ``sizes=16`` are kept; the rest runs without. Other modes are those
            of ``torch.compile``, which takes the rest of the dict too, ``dynamic=True`` where that
            is not in it: one graph for all sizes. Default: None.
        num_registers (int): Register tokens beside the patches: they take part in attention, are
            never merged, and the adapter does not see them. Default: 0.
        pre_norm (bool): Whether tokens are normalised before the first block, as in CLIP; the patch
            embedding then has no bias. Default: False.
        activation (str): Of the MLPs: ``'gelu'``, ``'gelu_tanh'`` (SigLIP) or ``'quick_gelu'``
            (OpenAI's CLIP). Default: ``'gelu'``.
        norm_eps (float): Epsilon of the ViT's norms; CLIP has 1e-5. Default: 1e-6.
        frozen_blocks (int): How many blocks, from the first on, and with them the embedding, are
            neither trained nor dropped by stochastic depth. Default: 0.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=...)`` with a plain ViT
            such as DeiT, DINOv2, AugReg or MAE (local file, URL, ``timm://MODEL``,
            ``hf://ORG/REPO/FILE``) initialises the ViT. Default: None.

    Raises:
        ValueError: If an argument is out of range; the message names it.

    Examples:
        >>> import torch
        >>> from mmdet_atc.backbones import ViTAdapter
        >>> model = ViTAdapter(embed_dim=192, num_heads=3).eval()
        >>> for feature in model(torch.rand(1, 3, 64, 96)):
        ...     print(tuple(feature.shape))
        (1, 192, 16, 24)
        (1, 192, 8, 12)
        (1, 192, 4, 6)
        (1, 192, 2, 3)
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        layer_scale: bool = False,
        pretrain_size: int = 224,
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int = 6,
        init_values: float = 0.0,
        interaction_indexes: Sequence[Sequence[int]] | None = None,
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        deform_ratio: float = 1.0,
        add_vit_feature: bool = True,
        vit_features: str = 'last',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        use_extra_extractor: bool = True,
        window_attn: bool | Sequence[bool] = False,
        window_size: int | Sequence[int | None] = 14,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        compile: dict | None = None,
        num_registers: int = 0,
        pre_norm: bool = False,
        activation: str = 'gelu',
        norm_eps: float = 1e-6,
        frozen_blocks: int = 0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        pretrained = isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained'
        if init_cfg is not None and not (pretrained and 'checkpoint' in init_cfg):
            raise ValueError(
                "init_cfg of a ViT-Adapter must be dict(type='Pretrained', checkpoint=...) "
                f'or None, got {init_cfg!r}'
            )
        super().__init__(init_cfg)
        check_counts(
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            pretrain_size=pretrain_size,
            conv_inplane=conv_inplane,
            n_points=n_points,
            deform_num_heads=deform_num_heads,
        )
        check_ratios(
            embed_dim, mlp_ratio=mlp_ratio, cffn_ratio=cffn_ratio, deform_ratio=deform_ratio
        )
        check_bools(
            qkv_bias=qkv_bias,
            layer_scale=layer_scale,
            with_cffn=with_cffn,
            add_vit_feature=add_vit_feature,
            use_extra_extractor=use_extra_extractor,
            with_cp=with_cp,
            pre_norm=pre_norm,
        )
        check_up_to(depth, frozen_blocks=frozen_blocks)
        check_up_to(_MOST_REGISTERS, num_registers=num_registers)
        check_choice(ACTIVATIONS, activation=activation)
        check_choice(('last', 'each'), vit_features=vit_features)
        check_drop_rate(drop_path_rate=drop_path_rate)
        check_finite(init_values=init_values, norm_eps=norm_eps)
        if norm_eps <= 0:
            raise ValueError(f'norm_eps must be positive, got {norm_eps!r}')
        if patch_size != 16:
            raise ValueError(
                f'patch_size must be 16 (the adapter has strides 8, 16, 32), got {patch_size!r}'
            )
        if img_size != pretrain_size or pretrain_size % patch_size or pretrain_size < patch_size:
            raise ValueError(
                'img_size and pretrain_size must be the same positive multiple of patch_size, '
                f'got img_size={img_size!r}, pretrain_size={pretrain_size!r}'
            )
        windows = windows_per_block(window_attn, window_size, depth)
        if num_registers and any(windows):
            raise ValueError(
                'window_attn must be False with num_registers: a window has patches alone'
            )
        groups = groups_of_blocks(interaction_indexes, depth)
        if vit_features == 'each' and len(groups) != 4:
            raise ValueError(
                "vit_features='each' takes four interactions, one for each map, got "
                f'{len(groups)} in interaction_indexes'
            )
        check_increasing('map', 3, out_indices=out_indices)
        self.set_compile(compile)
        norm_cfg = dict(type='BN') if norm_cfg is None else norm_cfg
        _check_norm(norm_cfg, embed_dim)

        self.embed_dim = embed_dim
        self.patch_size = patch_size
        self.add_vit_feature = add_vit_feature
        self.vit_features = vit_features
        self.out_indices = tuple(out_indices)
        self.interaction_indexes = groups
        self.window_sizes = windows
        self.num_registers = num_registers
        self.frozen_blocks = frozen_blocks
        self.pretrain_grid = pretrain_size // patch_size

        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.pretrain_grid**2, embed_dim))
        self.reg_token = (
            nn.Parameter(torch.zeros(1, num_registers, embed_dim)) if num_registers else None
        )
        self.level_embed = nn.Parameter(torch.zeros(3, embed_dim))
        projection = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size, bias=not pre_norm)
        self.patch_embed = nn.Sequential(OrderedDict(proj=projection))
        self.norm_pre = LayerNorm(embed_dim, eps=norm_eps) if pre_norm else nn.Identity()
        rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                qkv_bias,
                rate,
                layer_scale,
                window,
                with_cp,
                activation,
                norm_eps,
            )
            for rate, window in zip(rates, windows, strict=True)
        )

        def extractor() -> Extractor:
            return Extractor(
                embed_dim,
                deform_num_heads,
                n_points,
                deform_ratio,
                with_cffn,
                cffn_ratio,
                drop_path_rate,
                with_cp,
            )

        def interaction(is_last: bool) -> Interaction:
            injector = Injector(
                embed_dim, deform_num_heads, n_points, 3, deform_ratio, init_values, with_cp
            )
            extra = [extractor(), extractor()] if is_last and use_extra_extractor else None
            return Interaction(injector, extractor(), extra)

        self.spm = SpatialPriorModule(conv_inplane, embed_dim, norm_cfg)
        self.interactions = nn.ModuleList(interaction(group is groups[-1]) for group in groups)
        self.up = nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2)
        for level in range(1, 5):
            self.add_module(f'norm{level}', build_norm_layer(norm_cfg, embed_dim)[1])
        self._reset_parameters()
        self._register_load_state_dict_pre_hook(_drop_classifier_keys)
        self._freeze()

    def set_compile(self, compile: dict | None) -> None:
        """Replace the argument ``compile``.

        Args:
            compile (dict, optional): As the argument of the same name of the class.

        Raises:
            ValueError: If it is no such dict.
        """
        self.captured = compiled_forward(self, Geometry.of_image, compile)

    def _reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 * module.groups / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, MSDeformAttn):
                module.init_weights()
        trunc_normal_(self.pos_embed, std=0.02)
        if self.reg_token is not None:
            nn.init.normal_(self.reg_token, std=1e-6)
        nn.init.normal_(self.level_embed)

    def _freeze(self) -> None:
        if not self.frozen_blocks:
            return
        frozen = [self.patch_embed, self.norm_pre, *self.blocks[: self.frozen_blocks]]
        for module in frozen:
            module.eval().requires_grad_(False)
        for token in (self.pos_embed, self.reg_token):
            if token is not None:
                token.requires_grad_(False)

    def train(self, mode: bool = True) -> ViTAdapter:
        """As of any module, but frozen blocks stay in evaluation."""
        super().train(mode)
        self._freeze()
        return self

    def init_weights(self) -> None:
        """Load ``init_cfg``'s pretrained ViT, if any, into the patch embedding and the blocks.

        Raises:
            ValueError: If the file does not fit the ViT.
        """
        if self.is_init or self.init_cfg is None:
            return
        load_pretrained_vit(self, self.init_cfg['checkpoint'])
        self._is_init = True

    def forward(self, image: Tensor) -> Features:
        """Feature maps of a batch of images.

        Args:
            image (Tensor): ``(B, 3, H, W)``, normalised; H and W multiples of 32.

        Returns:
            tuple[Tensor, ...]: Maps ``(B, embed_dim, H / s, W / s)`` for s = 4, 8, 16, 32, or those
            of ``out_indices``; under autocast in its dtype, float32 where gradients are asked for.

        Raises:
            ValueError: If H or W is not a multiple of 32.
            RuntimeError: If ONNX is exported by tracing (torch's old exporter).
        """
        if self.captured is None:
            return self._run(image, BlocksOfPass(self))
        return self.captured(lambda image: self._run(image, BlocksOfPass(self)), image)

    def _run(self, image: Tensor, run_blocks: RunBlocks) -> Features:
        """:meth:`forward`, with the blocks between an Injector and its Extractor as given."""
        if torch.onnx.is_in_onnx_export() and torch.jit.is_tracing():
            raise RuntimeError(
                'ONNX cannot be exported by tracing (dynamo=False), which knows no operators of '
                'ours: export with torch.export.export, as torch.onnx.export(..., dynamo=True) does'
            )
        height, width = image.shape[-2:]
        if height % 32 or width % 32 or not height or not width:
            raise ValueError(
                f'input height and width must be multiples of 32, got {height}x{width}; '
                'set pad_size_divisor=32 in the data preprocessor'
            )
        if torch.compiler.is_compiling():  # casts as autocast does; torch 2.6 compiles no `with`
            return self._maps(image, run_blocks)
        kept = [self.pos_embed, *self.spm.folded_parameters()]
        with as_half(self, image, keep=kept) as image:
            return self._maps(image, run_blocks)

    def _maps(self, image: Tensor, run_blocks: RunBlocks) -> Features:
        geometry = Geometry.of_image(image)
        stem, *levels = self.spm(image)
        pyramid = self.spm.pyramid(levels, self.level_embed)
        del levels
        patches = self._patch_tokens(image, geometry.grid)
        features: list[Tensor | None] = []
        for index, (first, last) in enumerate(self.interaction_indexes):
            interaction = cast(Interaction, self.interactions[index])
            patches = interaction.injector(patches, pyramid, geometry.injector)
            patches = run_blocks(patches, range(first, last + 1), geometry.grid)
            pyramid = interaction.extract(pyramid, patches, geometry.extractor, geometry.pyramid)
            if self.add_vit_feature and self.vit_features == 'each':
                features.append(feature_map(patches, geometry.grid))
        if not features:
            features = [feature_map(patches, geometry.grid) if self.add_vit_feature else None] * 4
        # Memory peaks where the map of stride 4 is made: nothing else is held there.
        held = [stem]
        del stem, patches
        finest: Features = ()
        if 0 in self.out_indices:
            finest = (self._finest_output(held, pyramid, features[0], geometry),)
        return finest + self._coarser_outputs(pyramid, features, geometry)

    def _patch_tokens(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches with their position embedding, ``(B, N, C)``."""
        projection = cast(nn.Conv2d, self.patch_embed.proj)
        embed = resized_pos_embed(self.pos_embed, grid).to(projection.weight.dtype)
        patches = add_residual(embed, patch_tokens(projection, image))
        return self.norm_pre(patches).to(patches.dtype)

    def register_tokens(self, patches: Tensor) -> Tensor:
        """The register tokens that go with patches into the first block, ``(B, R, C)``."""
        assert self.reg_token is not None
        registers = self.norm_pre(self.reg_token).to(patches.dtype)
        return registers.expand(len(patches), -1, -1)

    def _finest_output(
        self, stem: list[Tensor], pyramid: Tensor, feature: Tensor | None, geometry: Geometry
    ) -> Tensor:
        """The map of stride 4, which no interaction sees, with the pyramid's first level."""
        height, width = shape = geometry.pyramid[0]
        level = pyramid[:, : height * width]
        return finest_map(stem, self.spm.fc1, self.up, level, shape, feature, self.norm1)

    def _coarser_outputs(
        self, pyramid: Tensor, features: Sequence[Tensor | None], geometry: Geometry
    ) -> tuple[Tensor, ...]:
        """Those of the maps of strides 8, 16 and 32 that are asked for."""
        levels = pyramid.split([height * width for height, width in geometry.pyramid], dim=1)
        norms = (self.norm2, self.norm3, self.norm4)
        return tuple(
            coarser_map(level, shape, features[index], norm)
            for index, (level, shape, norm) in enumerate(zip(levels, geometry.pyramid, norms), 1)
            if index in self.out_indices
        )


def _drop_classifier_keys(state_dict: dict, prefix: str, *_) -> None:
    """Load hook: a classifier's keys are neither loaded nor reported as unexpected."""
    for key in CLASSIFIER_KEYS:
        state_dict.pop(prefix + key, None)


def _check_norm(norm_cfg: dict, channels: int) -> None:
    try:
        build_norm_layer(norm_cfg, channels)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f'norm_cfg must be the config of a norm for {channels} channels, got {norm_cfg!r}'
        ) from error
