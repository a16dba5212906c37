"""Leading components of a block of a matrix: what many rows change alike, stored once.

The heads and tied embeddings of fine-tuned models change by nearly the same vector in every row
(every token that was not next pushes its row against the mean hidden state), so that one component
may hold most of ‖Δ‖². A block is then L · R, small integers with one scale, and a remainder that
another frame codes; the remainder is taken after the integers were rounded, so that nothing is lost
or biased by rounding them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs.entropy.planes import decode_plane, encode_plane
from ftt_hub.errors import CodecError

HEAD = struct.Struct("<BfHIII")
KIND = 64

MOST = 8
"""Largest number of components."""

ENTRY_BITS = 5.5
"""Approximate bits of an entry of L or R."""

_LARGEST, _ROOT_MEAN_SQUARE = 127, 8.0
_EXTRA, _PASSES = 4, 3
_SINGLE = 1 << 18
"""Multiplications at a time, below the number at which BLAS libraries start threads."""


@dataclass(frozen=True)
class Components:
    """The leading components of a block, before rounding.

    Attributes:
        left: (rows, k) float32, singular vectors times the root of their singular value.
        right: (k, columns) float32, likewise.
        rest: Part of ‖Δ‖² that is left when 0, 1, … k of them are taken out; k + 1 numbers.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    rest: NDArray[np.float64]

    def cost(self, rank: int) -> float:
        """Approximate bits of `rank` components."""
        return rank * ENTRY_BITS * int(self.left.shape[0] + self.right.shape[1])


@dataclass(frozen=True)
class Rounded:
    """Components as they are stored: Δ_L = scale · L · R.

    Attributes:
        left: (rows, k) int8.
        right: (k, columns) int8.
        scale: float32.
    """

    left: NDArray[np.int8]
    right: NDArray[np.int8]
    scale: float

    def values(self) -> NDArray[np.float32]:
        """The product scale · L · R, 1-D: integer sums exact in float32, then one rounding."""
        rows, rank = self.left.shape
        columns = self.right.shape[1]
        left, right = self.left.astype(np.float32), self.right.astype(np.float32)
        product = np.empty((rows, columns), np.float32)
        height = max(1, _SINGLE // max(1, rank * columns))
        for start in range(0, rows, height):
            np.matmul(left[start : start + height], right, out=product[start : start + height])
        product *= np.float32(self.scale)
        return product.reshape(-1)

    def pack(self, inner: bytes) -> bytes:
        """The frame of the block, which ends with the frame of the remainder."""
        left = encode_plane(np.ascontiguousarray(self.left.T).reshape(-1))
        right = encode_plane(self.right.reshape(-1))
        rank = self.left.shape[1]
        head = HEAD.pack(KIND, self.scale, rank, self.right.shape[1], len(left), len(right))
        return head + left + right + inner


def find(values: NDArray[np.float32], columns: int) -> Components | None:
    """The leading components of a block of whole rows, by randomised subspace iteration.

    Halko, Martinsson and Tropp 2011, "Finding structure with randomness". ``None`` where rows or
    columns are too few for components to be worth their bits.
    """
    rows = values.size // columns if columns else 0
    rank = min(MOST, min(rows, columns) // 8)
    if rank < 1 or rows * columns != values.size:
        return None
    matrix = values.reshape(rows, columns)
    energy = float(np.einsum("ij,ij->", matrix, matrix, dtype=np.float64))
    if not (energy > 0 and math.isfinite(energy)):
        return None
    start = np.random.Generator(np.random.Philox(key=rank)).standard_normal(
        (columns, min(columns, rank + _EXTRA)), np.float32
    )
    basis = np.linalg.qr(start)[0]
    for _ in range(_PASSES):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    image = (matrix @ basis).astype(np.float64)
    left, sizes, turn = np.linalg.svd(image, full_matrices=False)
    roots = np.sqrt(sizes[:rank])
    right = roots[:, None] * (turn[:rank] @ basis.T.astype(np.float64))
    held = np.concatenate([[0.0], np.cumsum(np.square(sizes[:rank]))])
    return Components(
        (left[:, :rank] * roots).astype(np.float32),
        right.astype(np.float32),
        np.clip(1.0 - held / energy, 1e-9, 1.0),
    )


def rounded(found: Components, rank: int) -> Rounded:
    """The first `rank` components on grids of small integers."""
    left, left_step = _grid(found.left[:, :rank])
    right, right_step = _grid(found.right[:rank])
    return Rounded(left, right, float(np.float32(left_step * right_step)))


def _grid(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    strongest = float(np.abs(values).max(initial=0))
    spread = math.sqrt(float(np.square(values, dtype=np.float64).mean()))
    step = max(spread / _ROOT_MEAN_SQUARE, strongest / _LARGEST) or 1.0
    return np.clip(np.rint(values / step), -_LARGEST, _LARGEST).astype(np.int8), step


def unpack(frame: bytes, count: int) -> tuple[Rounded, bytes]:
    """Components of an untrusted frame of `count` elements, and the frame of the remainder.

    Raises:
        CodecError: Malformed, or of another shape.
    """
    if len(frame) < HEAD.size:
        raise CodecError("frame is cut short", expected="a head of components")
    _, scale, rank, columns, one, two = HEAD.unpack_from(frame)
    if not (math.isfinite(scale) and scale > 0):
        raise CodecError("impossible scale", expected="a positive number", found=scale)
    if not columns or count % columns or not 0 < rank <= min(columns, count // columns, 256):
        raise CodecError(
            "components do not fit the block",
            expected=f"whole rows in {count} elements, 1 to 256 components",
            found=f"{columns} columns, {rank} components",
        )
    if HEAD.size + one + two > len(frame):
        raise CodecError(
            "the head does not match the frame",
            expected=f"{HEAD.size + one + two} bytes or more",
            found=len(frame),
        )
    left: NDArray[np.int8] = np.empty((rank, count // columns), np.int8)
    right: NDArray[np.int8] = np.empty((rank, columns), np.int8)
    start = HEAD.size + one
    decode_plane(frame[HEAD.size : start], left.reshape(-1))
    decode_plane(frame[start : start + two], right.reshape(-1))
    return Rounded(np.ascontiguousarray(left.T), right, scale), frame[start + two :]
