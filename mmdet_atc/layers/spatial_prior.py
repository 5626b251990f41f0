"""Spatial prior module of ViT-Adapter (Chen et al., ICLR 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .conv_norm import ConvNormSequential
from .convolutions import pointwise_tokens
from .pooling import StemMaxPool
from .precision import autocast_dtype


class SpatialPriorModule(nn.Module):
    """A small convolutional pyramid: what a plain ViT lacks of local spatial detail.

    Args:
        inplanes (int): Channels of the stem. Default: 64.
        embed_dim (int): Channels of the outputs. Default: 384.
        norm_cfg (dict, optional): Config of the norm layers; batch norm if None. Default: None.
        in_channels (int): Channels of the image. Default: 3.
    """

    def __init__(
        self,
        inplanes: int = 64,
        embed_dim: int = 384,
        norm_cfg: dict | None = None,
        in_channels: int = 3,
    ) -> None:
        from mmcv.cnn import build_norm_layer  # here, for `mmdet_atc.ops` without mmcv

        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')

        def conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                build_norm_layer(norm_cfg, outputs)[1],
                nn.ReLU(inplace=True),
            ]

        self.stem = ConvNormSequential(
            *conv(in_channels, inplanes, 2),
            *conv(inplanes, inplanes, 1),
            *conv(inplanes, inplanes, 1),
            StemMaxPool(),
        )
        self.conv2 = ConvNormSequential(*conv(inplanes, 2 * inplanes, 2))
        self.conv3 = ConvNormSequential(*conv(2 * inplanes, 4 * inplanes, 2))
        self.conv4 = ConvNormSequential(*conv(4 * inplanes, 4 * inplanes, 2))
        self.fc1 = nn.Conv2d(inplanes, embed_dim, 1)
        self.fc2 = nn.Conv2d(2 * inplanes, embed_dim, 1)
        self.fc3 = nn.Conv2d(4 * inplanes, embed_dim, 1)
        self.fc4 = nn.Conv2d(4 * inplanes, embed_dim, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The stem's map, and those of the pyramid before :meth:`pyramid`.

        Args:
            image (Tensor): ``(B, 3, H, W)``.

        Returns:
            tuple[Tensor, ...]: ``(B, inplanes, H / 4, W / 4)``, for the output map of stride 4; and
            ``(B, C', H / s, W / s)`` for s = 8, 16, 32, C' twice, four and four times ``inplanes``.
        """
        if self._wants_channels_last(image):
            image = image.contiguous(memory_format=torch.channels_last)
        stem = self.stem(image)
        c2 = self.conv2(stem)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return stem, c2, c3, c4

    def pyramid(self, levels: Sequence[Tensor], level_embed: Tensor) -> Tensor:
        """The levels after the stem as tokens, one after another.

        Args:
            levels (Sequence[Tensor]): ``(B, C', H / s, W / s)`` for s = 8, 16, 32.
            level_embed (Tensor): What tells them apart, ``(3, embed_dim)``.

        Returns:
            Tensor: ``(B, S, embed_dim)``.
        """
        convs = (self.fc2, self.fc3, self.fc4)
        return torch.cat(
            [pointwise_tokens(*each) for each in zip(convs, levels, level_embed, strict=True)],
            dim=1,
        )

    def folded_parameters(self) -> list[nn.Parameter]:
        """Parameters of the convolutions that batch norms are folded into now."""
        return [
            parameter
            for part in (self.stem, self.conv2, self.conv3, self.conv4)
            for conv in part.foldable()
            for parameter in conv.parameters()
        ]

    @staticmethod
    def _wants_channels_last(image: Tensor) -> bool:
        """On the CPU convolutions are faster so, pooling tenfold; on a GPU in half precision."""
        is_half = image.dtype.itemsize < 4 or autocast_dtype(image.device.type) is not None
        return is_half or image.device.type == 'cpu'
