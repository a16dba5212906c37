"""Peers that store a low rank of Δ: truncated SVD, and Delta-CoMe's mixed precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from stored import Matrix, Stored

_GROUP = 128
"""Entries of a singular vector that share an fp16 scale, as in Delta-CoMe."""

_HIGH = ((8, 2), (3, 32))
"""Bits and number of Delta-CoMe's first singular vectors; all that follow have two bits."""

_CLIPPED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Ranges tried for a group, of its largest magnitude; the smallest squared error wins."""


def svd(rank: int) -> Callable[[Matrix, int], Stored]:
    """Truncated SVD with fp16 factors, the singular values split evenly between them."""

    def store(delta: Matrix, seed: int) -> Stored:
        del seed
        left, right = _factors(torch.from_numpy(delta), rank)
        values = left.half().float() @ right.half().float().T
        return Stored(values.numpy(), 16 * rank * sum(delta.shape))

    return store


def mixed_svd(delta: Matrix, seed: int) -> Stored:
    """Delta-CoMe (Ping et al. 2024), "8+3+2" at one bit a weight.

    Two singular vectors at 8 bits, 32 at 3, and as many at 2 as it takes to fill one bit a weight,
    in groups of 128 with an fp16 scale. Its GPTQ with text is replaced by what needs none: clipping
    with the least squared error, and left vectors fitted to what the earlier ones left over.
    """
    del seed
    rows, columns = delta.shape
    scales = 16 * (-(-rows // _GROUP) + -(-columns // _GROUP))
    widths = [bits for bits, count in _HIGH for _ in range(count)]
    used = sum(bits * (rows + columns) + scales for bits in widths)
    more = math.ceil((delta.size - used) / (2 * (rows + columns) + scales))
    widths = (widths + [2] * max(0, more))[: min(rows, columns)]
    rest = torch.from_numpy(delta.copy())
    _, right = _factors(rest, len(widths))
    for first in sorted({widths.index(bits) for bits in widths}):
        bits = widths[first]
        rounded = _grid(right[:, first : first + widths.count(bits)], bits)
        for vector in rounded.T:
            fitted = (rest @ vector) / vector.square().sum().clamp_min(1e-30)
            rest.addr_(_grid(fitted[:, None], bits)[:, 0], vector, alpha=-1)
    taken = sum(bits * (rows + columns) + scales for bits in widths)
    return Stored((torch.from_numpy(delta) - rest).numpy(), taken)


def _factors(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Leading singular vectors times the roots of their values, from the smaller Gram matrix."""
    if matrix.shape[0] < matrix.shape[1]:
        right, left = _factors(matrix.T, rank)
        return left, right
    wide = matrix.double()
    vectors = torch.linalg.eigh(wide.T @ wide)[1].flip(1)[:, :rank]
    left = wide @ vectors
    roots = left.norm(dim=0).clamp_min(1e-30).sqrt()
    return (left / roots).float(), (vectors * roots).float()


def _grid(columns: torch.Tensor, bits: int) -> torch.Tensor:
    """Each group of each column on 2^bits levels, evenly spaced about zero."""
    rows, count = columns.shape
    padded = torch.nn.functional.pad(columns, (0, 0, 0, -rows % _GROUP))
    groups = padded.reshape(-1, _GROUP, count)
    largest = groups.abs().amax(1, keepdim=True).clamp_min(1e-30)
    half = 2 ** (bits - 1)
    best = torch.zeros_like(groups)
    least = torch.full_like(largest, torch.inf)
    for part in _CLIPPED:
        step = largest * (part / (half - 0.5))
        rounded = (torch.floor(groups / step).clamp(-half, half - 1) + 0.5) * step
        error = (rounded - groups).square().sum(1, keepdim=True)
        best = torch.where(error < least, rounded, best)
        least = torch.minimum(error, least)
    return best.reshape(-1, count)[:rows]
