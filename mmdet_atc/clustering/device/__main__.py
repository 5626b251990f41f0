"""``python -m mmdet_atc.clustering.device cuda:0``: the check of the Triton kernels, by hand.

Ends with status 0 where they pass; otherwise the last line says why not.
"""

from __future__ import annotations

import sys

import torch

from .self_check import differences

if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: python -m mmdet_atc.clustering.device DEVICE')
    found = differences(torch.device(sys.argv[1]))
    if found:
        sys.exit(f'other than plain torch: {"; ".join(found)}')
