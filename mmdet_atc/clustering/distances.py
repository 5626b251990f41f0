"""The distance that features are clustered by, as whole numbers: the same on every device.

Directions are rounded once, to multiples of 2⁻⁴⁷. From there on everything is a sum or product of
integers and therefore exact: no order of additions, no fused operation and no device can change a
distance. All forms compute these numbers, each in its own way; this file says which.

Of two directions q and r, ``D = floor(sum_c (q_c - r_c)² / 2³⁴)``: half the squared distance of two
unit vectors, which is 1 - cosine, with 61 fraction bits. It is 0 for equal directions and differs
from 1 - cosine of the features by at most ``sqrt(2 D C) * 2**-47`` and some 2⁻⁵⁰.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: Directions are multiples of 2**-SHIFT.
SHIFT = 47
#: Distances are multiples of 2**-FRACTION_BITS.
FRACTION_BITS = 61
#: What lies below a distance's last bit in a sum of squares.
DROPPED_BITS = 2 * SHIFT + 1 - FRACTION_BITS
#: Distance to a zero vector, which has no direction; scikit-learn's choice.
ONE = 2**FRACTION_BITS
#: Larger than any distance.
GONE = 2**63 - 1
#: Sums over clusters of an image stay within 63 bits, products of two sizes within 30.
MOST_TOKENS = 2**15 - 1
_LIMB = 21
_LIMB_MASK = 2**_LIMB - 1
#: Rows of distances that are computed at a time.
_ROWS = 256


def fixed_point(features: Tensor) -> Tensor:
    """Directions of features, rounded to multiples of 2⁻⁴⁷.

    In float64, in this order: each vector is divided by the power of two below its largest
    magnitude (exact; no square overflows); its squares are added by folding halves, padded with
    zeros to a power of two; the vector is divided by the root; ``floor(u * 2**47 + 0.5)``. Each
    operation is rounded by itself, none is fused with the next.

    Args:
        features (Tensor): ``(..., C)``, any float dtype, any device with float64.

    Returns:
        Tensor: ``(..., C)`` int64. All zero for a zero vector and for no other.
    """
    x = features.double()
    greatest = x.abs().amax(dim=-1, keepdim=True)
    power = greatest / (2 * torch.frexp(greatest).mantissa)
    x = x / torch.where(greatest == 0, 1, power)
    square = x * x
    width = 1 << (square.shape[-1] - 1).bit_length()
    square = F.pad(square, (0, width - square.shape[-1]))
    while width > 1:
        width //= 2
        square = square[..., :width] + square[..., width:]
    norm = _square_root(square)
    direction = x / torch.where(norm == 0, 1, norm)
    return (direction * 2**SHIFT + 0.5).floor().long()


def _square_root(x: Tensor) -> Tensor:
    """Correctly rounded, as IEEE wants it: torch's own is not on CPUs, where MKL computes it."""
    return torch.from_numpy(np.sqrt(x.detach().numpy())) if x.device.type == 'cpu' else x.sqrt()


def excess(q: Tensor) -> Tensor:
    """By how much the squared length of each direction exceeds that of an exact unit vector.

    Args:
        q (Tensor): ``(..., C)`` int64 directions.

    Returns:
        Tensor: ``(...)`` int64, ``sum_c q_c² - 2**94``; 0 for a zero vector. It fits although its
        terms do not: 64-bit products and sums are right modulo 2⁶⁴, which divides 2⁹⁴.
    """
    return (q * q).sum(dim=-1)


def token_distances(q: Tensor) -> Tensor:
    """Distances of all pairs of tokens.

    Args:
        q (Tensor): ``(..., N, C)`` int64 directions.

    Returns:
        Tensor: ``(..., N, N)`` int64, symmetric, ``D`` as above; ``ONE`` where either is a zero
        vector, 0 on the diagonal.
    """
    rows = [_rows_of_distances(part, q) for part in q.split(_ROWS, dim=-2)]
    distances = torch.cat(rows, dim=-2)
    distances.diagonal(dim1=-2, dim2=-1).zero_()
    return distances


def _rows_of_distances(q: Tensor, r: Tensor) -> Tensor:
    """Distances ``(..., N, M)`` of directions ``(..., N, C)`` and ``(..., M, C)``.

    The sum of squares is 2**95 + excess(q) + excess(r) - 2 qr, and qr is taken from halves of 24
    bits: qr = aa * 2**48 + ab * 2**24 + bb.
    """
    half = 2**24 - 1
    aa = _products(q >> 24, r >> 24, 48)
    ab = _products(q >> 24, r & half, 48).add_(_products(q & half, r >> 24, 48))
    low = _products(q & half, r & half, 48).mul_(-2)
    low.add_(excess(q)[..., :, None]).add_(excess(r)[..., None, :])
    distances = (low >> 24).sub_(ab, alpha=2) >> (DROPPED_BITS - 24)
    distances.sub_(aa, alpha=2 ** (49 - DROPPED_BITS)).add_(ONE)
    nonzero = q.any(dim=-1)[..., :, None] & r.any(dim=-1)[..., None, :]
    return distances.masked_fill_(~nonzero, ONE)


def _products(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """``x @ y.mT`` of integers, in parts that are exact in float64.

    Args:
        x (Tensor): ``(..., N, C)`` int64.
        y (Tensor): ``(..., M, C)`` int64.
        bits (int): Every product is below 2**bits.

    Returns:
        Tensor: ``(..., N, M)`` int64.
    """
    step = 2 ** (53 - bits)
    parts = zip(x.double().split(step, dim=-1), y.double().split(step, dim=-1))
    return cast(Tensor, sum(torch.matmul(p, r.mT).long() for p, r in parts))


@dataclass(frozen=True)
class Sums:
    """What the exact mean distance of two clusters is computed from.

    Attributes:
        q (Tensor): ``(N, C)`` int64 sums of directions.
        excess (tuple[Tensor, Tensor]): ``(N,)`` int64 high and low part of the sums of excesses,
            ``high * 2**21 + low``: one int64 would not do.
        size (Tensor): ``(N,)`` int64 members.
        nonzero (Tensor): ``(N,)`` int64 members that are no zero vectors.
    """

    q: Tensor
    excess: tuple[Tensor, Tensor]
    size: Tensor
    nonzero: Tensor

    @classmethod
    def of_tokens(cls, q: Tensor, count: Tensor) -> Sums:
        """``count[n]`` tokens each of direction ``q[n]``, ``(N, C)`` and ``(N,)`` int64."""
        extra = excess(q)
        high, low = (extra >> _LIMB) * count, (extra & _LIMB_MASK) * count
        return cls(q * count[:, None], (high, low), count.clone(), q.any(dim=-1) * count)

    def parts(self) -> tuple[Tensor, ...]:
        return self.q, *self.excess, self.size, self.nonzero

    def at(self, index: Tensor) -> Sums:
        """Those of some clusters, by an index of any shape."""
        q, high, low, size, nonzero = (part[index] for part in self.parts())
        return Sums(q, (high, low), size, nonzero)

    def merge_(self, into: Tensor, gone: Tensor) -> None:
        """Add the sums of clusters ``gone`` to those of clusters ``into``, ``(M,)`` each."""
        for part in self.parts():
            part[into] += part[gone]


def mean_distances(x: Sums, y: Sums) -> Tensor:
    """Distances of clusters under average linkage, ``floor(P / (n * m * 2**34))``.

    ``P`` is the sum of squared distances over all n * m pairs of members, 2**95 for a pair with a
    zero vector: ``2**95 * n * m + m' E_x + n' E_y - 2 S_x S_y`` with excesses E and sums of
    directions S, n' and m' members that are no zero vectors. It has up to 124 bits and is kept in
    limbs of 21.

    Args:
        x (Sums): Of clusters ``(..., N)``.
        y (Sums): Of clusters ``(..., M)``.

    Returns:
        Tensor: ``(..., N, M)`` int64.
    """
    limbs = cast(list[Tensor], [0] * 5)  # each becomes a tensor in its first addition
    for i, part in enumerate(_limbs(x.q)):
        for j, other in enumerate(_limbs(y.q)):
            limbs[i + j] = limbs[i + j] - 2 * _products(part, other, 2 * _LIMB)
    pairs = x.size[..., :, None] * y.size[..., None, :]
    for i in range(2):
        limbs[i] += x.excess[1 - i][..., :, None] * y.nonzero[..., None, :]
        limbs[i] += x.nonzero[..., :, None] * y.excess[1 - i][..., None, :]
    limbs[4] += pairs << (2 * SHIFT + 1 - 4 * _LIMB)
    for i in range(4):
        limbs[i + 1] += limbs[i] >> _LIMB
        limbs[i] &= _LIMB_MASK
    # floor(P / 2**34) = high * 2**31 + low, and a long division of two steps.
    shift = DROPPED_BITS - _LIMB
    low = (
        (limbs[1] >> shift)
        + (limbs[2] << (_LIMB - shift))
        + ((limbs[3] & 3) << (2 * _LIMB - shift))
    )
    high = (limbs[3] >> 2) + (limbs[4] << (_LIMB - 2))
    quotient = high // pairs
    return (quotient << 31) + (((high - quotient * pairs) << 31) + low) // pairs


def _limbs(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three limbs of int64 numbers below 2⁶², lowest first; the highest has the sign."""
    return q & _LIMB_MASK, (q >> _LIMB) & _LIMB_MASK, q >> (2 * _LIMB)
