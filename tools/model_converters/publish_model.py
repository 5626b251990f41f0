#!/usr/bin/env python
"""Strip a training checkpoint to its weights: ``publish_model.py epoch_6.pth atc_t.pth``.

Writes ``atc_t-DIGEST.pth`` with the first 8 digits of the file's SHA-256 and prints all 64, which
an ``hf://`` path can pin.
"""

import argparse
import os
from pathlib import Path

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmdet_atc.checkpoints import sha256_of, stripped
from mmdet_atc.engine import faults_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(description='Strip a checkpoint for publication')
    parser.add_argument('source', help='checkpoint of a training run')
    parser.add_argument('target', type=Path, help='file to write; the digest is added to its name')
    args = parser.parse_args()
    stem = args.target.name.removesuffix('.pth')  # which may have a point: atc_r0.5
    unnamed = args.target.with_name(f'{stem}.partial')
    checkpoint = stripped(CheckpointLoader.load_checkpoint(args.source, 'cpu'))
    # An open file: torch would store the name of a path in the content and so in the digest.
    with open(unnamed, 'wb') as file:
        torch.save(checkpoint, file)
    digest = sha256_of(unnamed)
    named = args.target.with_name(f'{stem}-{digest[:8]}.pth')
    os.replace(unnamed, named)
    print(f'{named}\nsha256 {digest}')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
