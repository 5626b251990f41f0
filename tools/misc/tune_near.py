#!/usr/bin/env python
"""Measure the constants of clustering's near pairs on real keys: ``tune_near.py --help``.

Prints, for each linkage and keep rate, where the height of the last merge lies among the tokens'
distances to their nearest (quantiles, smallest and largest of the images), the quantile that the
rule of ``mmdet_atc.clustering.forms.cpp.limit_rules`` takes, in how many images its limit was too
low, and how many pairs of tokens lie within it.
"""

import argparse

import torch

from mmdet_atc.clustering.distances import fixed_point, token_distances
from mmdet_atc.clustering.forms import cpp
from mmdet_atc.engine import faults_in_one_line, positive_int
from mmdet_atc.studies.speed.clustering import load_keys
from mmdet_atc.studies.tables import markdown_table


def nearest_distances(image: torch.Tensor) -> torch.Tensor:
    """Each token's distance to the nearest other one, sorted, ``(N,)`` int64."""
    distances = token_distances(fixed_point(image))
    distances.fill_diagonal_(torch.iinfo(torch.int64).max)
    return distances.amin(dim=1).sort().values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('features', help='npz with keys (images, blocks, tokens, channels)')
    parser.add_argument('--keep-rates', type=float, nargs='+', default=[0.25, 0.5, 0.7, 0.9])
    parser.add_argument('--images', type=positive_int, default=8)
    args = parser.parse_args()
    keys = load_keys(args.features)[: args.images]
    # A third block that merges sees a quarter of the tokens, or so.
    images = [image[block, :: 2**block] for image in keys for block in range(keys.shape[1])]
    nearest = [nearest_distances(image) for image in images]
    rows = []
    for linkage, rule in cpp.limit_rules().items():
        for rate in args.keep_rates:
            quantiles, pairs, too_low = [], [], 0
            for image, distances in zip(images, nearest):
                count = int(rate * len(image))
                height = cpp.first_merges(image[None], count, linkage)[0, -1, 0]
                quantiles.append((distances <= height).double().mean().item())
                ((limits, found, _),) = cpp.near_pairs(image[None], count, linkage).tolist()
                pairs.append(found / len(image))
                too_low += limits > 1
            merged = f'{min(quantiles):.3f} to {max(quantiles):.3f}'
            guess = f'{rule.quantile(rate):.3f}, times {rule.stretch:g}'
            found = f'{min(pairs):.1f} to {max(pairs):.1f}'
            rows.append([linkage, f'{rate:g}', merged, guess, f'{too_low} of {len(images)}', found])
    head = ['linkage', 'keep rate', 'quantile of the last merge', 'rule', 'too low']
    print(markdown_table([*head, 'pairs a token'], rows))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
