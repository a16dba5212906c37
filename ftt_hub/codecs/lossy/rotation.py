"""Random rotations of runs of weights, fast, and exact on every machine.

A run of n = 2ᵏ weights is multiplied by random signs and by the Hadamard matrix Hₙ of ones and
minus ones, which spreads every weight over all coefficients (Ailon and Chazelle 2006, "Approximate
nearest neighbors and the fast Johnson–Lindenstrauss transform"). H is applied to integers small
enough that every partial sum is exact in float32, so that the order in which a BLAS adds them does
not matter.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

WIDTH = 4096
"""Weights rotated together; a shorter rest is padded to the next power of two."""

EXACT = 1 << 24
"""Integers below it, and sums that stay below it, are exact in float32."""

GROUP = 16
"""Runs handled at a time, so that temporaries stay in the processor's cache."""


def widths(count: int) -> tuple[int, int]:
    """Runs of `WIDTH` in `count` weights, and the padded width of the rest (0 if there is none)."""
    whole, rest = divmod(count, WIDTH)
    return whole, 1 << (rest - 1).bit_length() if rest else 0


def runs(count: int) -> list[slice]:
    """The coefficients of each run of `count` weights."""
    whole, rest = widths(count)
    whole_runs = [slice(i * WIDTH, (i + 1) * WIDTH) for i in range(whole)]
    return [*whole_runs, slice(whole * WIDTH, whole * WIDTH + rest)] if rest else whole_runs


def coefficients(count: int) -> int:
    """How many coefficients `count` weights have: as many, and the padding of the last run."""
    whole, rest = widths(count)
    return whole * WIDTH + rest


def key_of(seed: int, name: str, start: int) -> int:
    """64 bits that set the signs of a block."""
    digest = hashlib.sha256(f"ftt-hub rotation {seed} {name} {start}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def sign_bits(key: int, start: int, count: int) -> NDArray[np.uint8]:
    """A bit for each coefficient of [start, start + count) of a block, eight a byte, set for −1.

    `start` is a multiple of 256. Bit i of the little-endian output of Philox4x64-10 with key
    (`key`, 0) and counter 1, 2, …
    """
    counter = np.array([start // 256, 0, 0, 0], np.uint64)
    philox = np.random.Philox(key=np.array([key, 0], np.uint64), counter=counter)
    words = np.asarray(philox.random_raw(-(-count // 64)), "<u8")
    return words.view(np.uint8)[: -(-count // 8)]


def signs(key: int, start: int, count: int) -> NDArray[np.float32]:
    """±1 for coefficients [start, start + count) of a block, by `sign_bits`."""
    bits = np.unpackbits(sign_bits(key, start, count), count=count, bitorder="little")
    return np.float32(1) - np.float32(2) * bits


@cache
def _hadamard(order: int) -> NDArray[np.float32]:
    matrix = np.ones((1, 1), np.float32)
    for _ in range(order):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def transform(integers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hₙ times each row of (runs, n) float32 integers, whose magnitudes sum to less than `EXACT`.

    Hₙ is symmetric and Hₙ · Hₙ = n, so that this is also n times its own inverse.
    """
    number, width = integers.shape
    order = width.bit_length() - 1
    left, right = _hadamard(order - order // 2), _hadamard(order // 2)
    cube = integers.reshape(number, len(left), len(right))
    # products of at most 64 × 64 × 64, below the size at which BLAS libraries start threads
    turned: NDArray[np.float32] = np.matmul(np.matmul(left, cube), right)
    return turned.reshape(number, width)


def step_of(step: float, rms: float, spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Step of runs whose weights have these root mean squares, `step` being that at `rms`.

    It grows as spread^(7/8): noise summed over all runs is smallest when the bits of a run grow as
    its spread does, and near a tenth of a bit that is so. Square roots alone are taken, since they
    are rounded alike everywhere.
    """
    ratio = spread / rms
    eighth = np.sqrt(np.sqrt(np.sqrt(np.maximum(ratio, 1e-300))))
    return np.asarray(step * ratio / eighth, np.float64)
