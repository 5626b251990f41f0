"""The numbering of clusters."""

from __future__ import annotations

import torch
from torch import Tensor


def number_by_smallest_member(owner: Tensor) -> Tensor:
    """Labels from owners.

    Args:
        owner (Tensor): ``(..., N)`` int64 in ``0 .. N - 1``, equal for the tokens of a cluster.

    Returns:
        Tensor: ``(..., N)`` int64, clusters numbered by their smallest member.
    """
    tokens = torch.arange(owner.shape[-1], device=owner.device).expand_as(owner)
    first = torch.full_like(owner, owner.shape[-1]).scatter_reduce_(-1, owner, tokens, 'amin')
    smallest = first.gather(-1, owner)
    return (smallest == tokens).cumsum(dim=-1).sub_(1).gather(-1, smallest)
