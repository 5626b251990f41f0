"""Spatial prior module of ViT-Adapter (Chen et al., ICLR 2023, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conv_norm import ConvNormSequential
from .convolutions import pointwise


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
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.conv2 = ConvNormSequential(*conv(inplanes, 2 * inplanes, 2))
        self.conv3 = ConvNormSequential(*conv(2 * inplanes, 4 * inplanes, 2))
        self.conv4 = ConvNormSequential(*conv(4 * inplanes, 4 * inplanes, 2))
        self.fc1 = nn.Conv2d(inplanes, embed_dim, 1)
        self.fc2 = nn.Conv2d(2 * inplanes, embed_dim, 1)
        self.fc3 = nn.Conv2d(4 * inplanes, embed_dim, 1)
        self.fc4 = nn.Conv2d(4 * inplanes, embed_dim, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The stem's map, and the pyramid.

        Args:
            image (Tensor): ``(B, 3, H, W)``.

        Returns:
            tuple[Tensor, ...]: ``(B, inplanes, H / 4, W / 4)``, to be kept for :meth:`finest`; and
            ``(B, embed_dim, H / s, W / s)`` for s = 8, 16, 32.
        """
        if image.device.type == 'cpu':
            # Convolutions, and pooling tenfold, are faster on the CPU with channels last.
            image = image.contiguous(memory_format=torch.channels_last)
        stem = self.stem(image)
        c2 = self.conv2(stem)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return stem, self.fc2(c2), self.fc3(c3), self.fc4(c4)

    def finest(self, stem: Tensor) -> Tensor:
        """Map of stride 4, by far the largest and wanted last, ``(B, embed_dim, H / 4, W / 4)``."""
        return pointwise(self.fc1, stem)
