"""Classifiers' files: the authors', DeiT's, MAE's and timm's, into a timm Vision Transformer."""

from __future__ import annotations

import argparse
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from mmdet_atc.checkpoints import check_fit, flat_state_dict


def load_classifier(
    model: VisionTransformer, source: str, new_head: bool = False
) -> dict[str, Any]:
    """Load a checkpoint into a model, patched or not.

    Read are the authors' files (``model``, ``model_ema`` where ``ema_best``, ``args``), FAIR's of
    DeiT and MAE (``model``), and those of ``tools/classification/train.py``. Position embeddings
    of another grid are resized.

    Args:
        model (VisionTransformer): With as many classes as the file. MAE's are average pooled:
            ``timm.create_model('vit_base_patch16_224', global_pool='avg')``.
        source (str): Local file, URL, ``hf://ORG/REPO/FILE`` or ``timm://MODEL``.
        new_head (bool): Whether the model keeps its own head where the file's is for another
            number of classes. Default: False.

    Returns:
        dict: The arguments that the file says it was trained with; empty where it has none.

    Raises:
        CheckpointError: If the file does not fit the model, or may not be read.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')
    state = checkpoint_filter_fn(flat_state_dict(checkpoint), model)
    wanted = model.state_dict()
    if new_head and state.get('head.weight', wanted['head.weight']).shape[0] != model.num_classes:
        state.update({name: wanted[name] for name in ('head.weight', 'head.bias')})
    check_fit(state, wanted, source)
    model.load_state_dict(state)
    args = checkpoint.get('args')
    return vars(args) if isinstance(args, argparse.Namespace) else {}
