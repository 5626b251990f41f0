"""A classifier, what it merges by and how much, from the options of a command line."""

from __future__ import annotations

import argparse
from typing import Any

import timm
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer

from mmdet_atc.arguments import check_counts
from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import (
    METHODS,
    TokenPlan,
    build_merger,
    constant_plan,
    keep_rate_plan,
    linear_plan,
)
from mmdet_atc.merging.plan import tokens_left

from .datasets import NAMES, build_transform

#: Config of a merger by the name of its method, for models with a class token.
CLASSIFIER_METHODS: dict[str, dict] = {
    **{name: method.merging for name, method in METHODS.items()},
    'tome': dict(type='BipartiteMerging', class_token=True),
    'evit': dict(type='EViTMerging'),
}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The data set, the model, ``--method`` and the plans; without a method the model is dense."""
    parser.add_argument('root', help='folder of the data set; any word for textures')
    parser.add_argument('--dataset', choices=NAMES, default='imagenet')
    parser.add_argument('--model', default='deit_small_patch16_224', help="a timm model's name")
    parser.add_argument('--global-pool', help="'avg' for MAE's classifiers; default: the model's")
    parser.add_argument('--img-size', type=int, help="default: the model's")
    parser.add_argument('--workers', type=int, default=4)
    group = parser.add_argument_group('token merging')
    group.add_argument(
        '--method', choices=CLASSIFIER_METHODS, help='default: none, the dense model'
    )
    plans = group.add_mutually_exclusive_group()
    plans.add_argument(
        '--keep-rate',
        type=float,
        metavar='R',
        help='merge blocks leave R, R^2, R^3 ... of the patches',
    )
    plans.add_argument('--constant', type=int, metavar='T', help='T tokens go in every block')
    plans.add_argument('--linear', type=int, metavar='T', help='falling from 2 T to 0 tokens')
    group.add_argument('--merge-blocks', type=int, nargs='+', default=[3, 6, 9], help='0-based')
    group.add_argument(
        '--count',
        choices=('exact', 'released'),
        default='exact',
        help="what T counts, see mmdet_atc.merging.plan; 'released' is as the authors' code",
    )
    group.add_argument('--no-proportional-attn', action='store_true')


def build_model(args: argparse.Namespace, **options: Any) -> VisionTransformer:
    """The timm model of :func:`add_model_options`, dense; see :func:`build_vit`."""
    options |= {k: v for k in ('img_size', 'global_pool') if (v := getattr(args, k)) is not None}
    if args.img_size is not None:
        check_counts(img_size=args.img_size)
    return build_vit(args.model, **options)


def build_vit(name: str, **options: Any) -> VisionTransformer:
    """A Vision Transformer of timm.

    Args:
        name (str): Of ``timm.create_model``.
        **options (Any): Likewise.

    Raises:
        ValueError: If timm has no such model, it does not take the options, or it is no ViT.
    """
    try:
        model = timm.create_model(name, **options)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f'model {name}: {error}') from error
    if not isinstance(model, VisionTransformer):
        raise ValueError(
            f"model {name}: must be one of timm's VisionTransformer, got {type(model).__name__}"
        )
    return model


def transform_of(model: VisionTransformer, args: argparse.Namespace, training: bool) -> Any:
    """The data set's transform, to the size and the pixel values that the model takes."""
    config = resolve_model_data_config(model, dict(img_size=args.img_size))
    side, mean, std = config['input_size'][-1], config['mean'], config['std']
    return build_transform(args.dataset, side, training, mean, std)


def merge_as_asked(model: VisionTransformer, args: argparse.Namespace) -> str:
    """Patch a model by the options of :func:`add_model_options`.

    Returns:
        str: What was done, for tables: ``'average r=0.5'``.

    Raises:
        ValueError: If there is a method without a plan or a plan without a method.
    """
    plan, text = _plan(args)
    if (args.method is None) != (plan is None):
        raise ValueError('--method and one of --keep-rate, --constant, --linear go together')
    if plan is None:
        return 'dense'
    apply_merging(model, CLASSIFIER_METHODS[args.method], plan, not args.no_proportional_attn)
    return f'{args.method} {text}'


def tokens_per_block(model: VisionTransformer, args: argparse.Namespace) -> list[int]:
    """How many tokens each block leaves, class token and registers included."""
    merger = args.method and build_merger(CLASSIFIER_METHODS[args.method])
    left = tokens_left(_plan(args)[0], len(model.blocks), model.patch_embed.num_patches, merger)
    return [count + model.num_prefix_tokens for count in left]


def _plan(args: argparse.Namespace) -> tuple[TokenPlan | None, str]:
    if args.keep_rate is not None:
        plan = keep_rate_plan(args.keep_rate, args.merge_blocks, of='initial')
        return plan, f'r={args.keep_rate:g}'
    if args.constant is not None:
        return constant_plan(args.constant, args.count), f'constant t={args.constant}'
    if args.linear is not None:
        return linear_plan(args.linear, args.count), f'linear t={args.linear}'
    return None, ''
