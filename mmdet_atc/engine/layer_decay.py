"""Layer-wise decay of the learning rate (BEiT, Bao et al., ICLR 2022), for a ViT in an adapter."""

from __future__ import annotations

import re

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmdet_atc.arguments import check_shares

#: What comes before the first block.
_EMBEDDING = re.compile(r'backbone\.(pos_embed|reg_token|patch_embed|norm_pre)\b')
_BLOCK = re.compile(r'backbone\.blocks\.(\d+)\.')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Blocks learn the slower the earlier they are, the embedding slowest.

    Block i of a backbone of N has ``rate ** (N - i)`` of the learning rate (i from 0), the
    embedding ``rate ** (N + 1)``, and the adapter, neck and heads have all of it. In a config::

        optim_wrapper = dict(
            constructor='LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.7),
        )

    MMDetection's own constructor of this kind knows ConvNeXt alone.

    ``paramwise_cfg`` takes ``layer_decay_rate`` in (0, 1] and whatever the default constructor
    takes; a ``lr_mult`` and the rate multiply.

    Raises:
        ValueError: If there is no ``layer_decay_rate``, it is out of range, or the model's backbone
            has no blocks.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        name = 'layer_decay_rate'
        check_shares(**{f'paramwise_cfg.{name}': self.paramwise_cfg.get(name)})

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """As the default constructor, which calls itself for each child; scaled once at the top."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        depth = len({match[1] for match in map(_BLOCK.match, names.values()) if match})
        if not depth:
            raise ValueError(
                'LayerDecayOptimWrapperConstructor needs a model whose backbone has blocks, got '
                f'{type(module).__name__} without backbone.blocks'
            )
        rate = self.paramwise_cfg['layer_decay_rate']
        for group in params:
            (parameter,) = group['params']
            steps = _steps(names[id(parameter)], depth)
            group['lr'] = group.get('lr', self.base_lr) * rate**steps
        print_log(
            f'Of these learning rates the embedding has {rate ** (depth + 1):.3g}, block 0 '
            f'{rate**depth:.3g} and block {depth - 1} {rate:.3g}, all else 1 (layer-wise decay)',
            logger='current',
        )


def _steps(name: str, depth: int) -> int:
    """How often the learning rate of a parameter is decayed."""
    if block := _BLOCK.match(name):
        return depth - int(block[1])
    return depth + 1 if _EMBEDDING.match(name) else 0
