"""One evaluation, from the options of a command line to its result."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import timm
import torch
from mmengine.utils import track_iter_progress
from timm.data import resolve_model_data_config
from torch.utils.data import DataLoader, Subset

from .checkpoints import load_classifier
from .datasets import MULTI_LABEL, build_dataset, build_transform
from .evaluation import evaluate
from .methods import merge_as_asked, tokens_per_block


def validate(args: argparse.Namespace) -> dict:
    """Build a model, merge and evaluate as the options of ``tools/classification/validate.py`` say.

    Args:
        args (argparse.Namespace): The options of that tool.

    Returns:
        dict: Model, merging, metric, speed and tokens per block.

    Raises:
        ValueError: If options do not go together or the checkpoint does not fit.
        OSError: If data or checkpoint cannot be read.
    """
    options = {k: v for k in ('img_size', 'global_pool') if (v := getattr(args, k)) is not None}
    data: Any = build_dataset(args.dataset, args.root, 'val')
    model: Any = timm.create_model(
        args.model, pretrained=args.checkpoint is None, num_classes=data.num_classes, **options
    )
    if args.checkpoint:
        load_classifier(model, args.checkpoint)
    device = torch.device(args.device)
    model.to(device)
    what = merge_as_asked(model, args)
    config = resolve_model_data_config(model)
    data.transform = build_transform(
        args.dataset, config['input_size'][-1], False, config['mean'], config['std']
    )
    if args.limit:
        data = Subset(data, range(min(args.limit, len(data))))
    loader = DataLoader(data, args.batch_size, num_workers=args.workers)
    batches = track_iter_progress((loader, len(loader)), file=sys.stderr)
    found = evaluate(model, batches, device, args.dataset in MULTI_LABEL, args.amp)
    sys.stderr.write('\n')
    return {
        'model': args.model,
        'merging': what,
        found.metric: round(found.value, 3),
        'images': found.images,
        'images_per_second': round(found.images_per_second, 1),
        'tokens_per_block': tokens_per_block(model, args),
    }
