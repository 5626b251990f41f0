"""One evaluation, from the options of a command line to its result."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from mmengine.utils import track_iter_progress
from torch.utils.data import DataLoader, Subset

from .checkpoints import load_classifier
from .datasets import MULTI_LABEL, build_dataset
from .evaluation import evaluate
from .methods import build_model, merge_as_asked, tokens_per_block, transform_of


def validate(args: argparse.Namespace) -> dict:
    """Build a model, merge and evaluate as the options of ``tools/classification/validate.py`` say.

    Args:
        args (argparse.Namespace): The options of that tool.

    Returns:
        dict: Model, merging, metric, speed and tokens per block.

    Raises:
        ValueError: If options do not go together, or weights and data have other classes.
        OSError: If data or checkpoint cannot be read.
    """
    data: Any = build_dataset(args.dataset, args.root, 'val')
    if args.checkpoint:
        model = build_model(args, num_classes=data.num_classes)
        load_classifier(model, args.checkpoint)
    else:
        model = build_model(args, pretrained=True)
        if model.num_classes != data.num_classes:
            raise ValueError(
                f'model {args.model} is pretrained on {model.num_classes} classes, {args.root} has '
                f'{data.num_classes}: name a checkpoint that was trained on them'
            )
    device = torch.device(args.device)
    model.to(device)
    what = merge_as_asked(model, args)
    data.transform = transform_of(model, args, training=False)
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
