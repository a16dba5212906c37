"""How others store a diff vector: bytes of lossless forms, and Δ̂ with its bits of lossy ones.

Each is written down from its paper or source, on the same tensors that ours gets. Lossy methods see
matrices only; everyone's 1-D tensors stay exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Bits = NDArray[np.uint16]


def _zstd(data: bytes, level: int = 3) -> int:
    return len(zstandard.ZstdCompressor(level=level, write_checksum=False).compress(data))


def _byte_planes(bits: Bits) -> int:
    planes = bits.view(np.uint8).reshape(-1, 2).T
    return sum(_zstd(plane.tobytes()) for plane in planes)


def tuned_zstd(source: Bits, tuned: Bits, delta: Bits) -> int:
    """The fine-tuned model itself, byte planes, zstd-3."""
    del source, delta
    return _byte_planes(tuned)


def bitx(source: Bits, tuned: Bits, delta: Bits) -> int:
    """BitX: XOR of the two models, byte planes, zstd-3."""
    del delta
    return _byte_planes(source ^ tuned)


def zipnn(source: Bits, tuned: Bits, delta: Bits) -> int:
    """ZipNN (its own package) on Δ in bf16; needs `pip install zipnn`."""
    del source, tuned
    import zipnn as package

    coder = package.ZipNN(bytearray_dtype="bfloat16", input_format="byte", threads=1)
    return len(coder.compress(bytearray(delta.tobytes())))


LOSSLESS: dict[str, Callable[[Bits, Bits, Bits], int]] = {
    "fine-tuned model, byte planes, zstd-3": tuned_zstd,
    "BitX style: XOR, byte planes, zstd-3": bitx,
    "ZipNN on Δ": zipnn,
}


@dataclass(frozen=True)
class Stored:
    """A delta as a lossy method gives it back, and the bits it took."""

    values: Matrix
    bits: float


def int4(delta: Matrix, seed: int) -> Stored:
    """4 bits in groups of 64 with an fp16 absmax scale."""
    del seed
    groups = np.pad(delta.ravel(), (0, -delta.size % 64)).reshape(-1, 64)
    scale = (np.abs(groups).max(1, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    levels = np.clip(np.rint(groups / np.where(scale == 0, 1, scale)), -8, 7)
    values = (levels * scale).ravel()[: delta.size].reshape(delta.shape)
    return Stored(values.astype(np.float32), delta.size * 4 + len(groups) * 16)


def bitdelta(delta: Matrix, seed: int) -> Stored:
    """BitDelta (Liu et al. 2024): sign and one scale a matrix."""
    del seed
    scale = float(np.abs(delta).mean())
    return Stored(np.where(delta > 0, scale, -scale).astype(np.float32), delta.size + 16)


def dare(rate: float) -> Callable[[Matrix, int], Stored]:
    """DARE (Yu et al. 2024): drop at random, rescale; kept values in int8, places at entropy."""

    def store(delta: Matrix, seed: int) -> Stored:
        keep = np.random.default_rng([seed, delta.size]).random(delta.shape) >= rate
        values = np.where(keep, delta / np.float32(1 - rate), 0).astype(np.float32)
        scale = max(float(np.abs(values).max()) / 127, 1e-30)
        entropy = -(rate * math.log2(rate) + (1 - rate) * math.log2(1 - rate))
        kept = np.rint(values / scale) * scale
        return Stored(kept.astype(np.float32), delta.size * (entropy + 8 * (1 - rate)))

    return store


def svd(rank: int) -> Callable[[Matrix, int], Stored]:
    """Truncated SVD with fp16 factors."""

    def store(delta: Matrix, seed: int) -> Stored:
        torch.manual_seed(seed)
        matrix = torch.from_numpy(delta)
        u, s, v = torch.svd_lowrank(matrix, q=min(rank + 8, *delta.shape), niter=2)
        left, right = (u * s)[:, :rank].half().float(), v[:, :rank].half().float()
        return Stored((left @ right.T).numpy(), 16 * rank * sum(delta.shape))

    return store


def mixed_svd(delta: Matrix, seed: int) -> Stored:
    """Delta-CoMe (Ping et al. 2024), mixed precision: 2 components at 8 bits, the next 30 at 3."""
    torch.manual_seed(seed)
    matrix = torch.from_numpy(delta)
    u, s, v = torch.svd_lowrank(matrix, q=min(40, *delta.shape), niter=2)
    roots = s.sqrt()
    sides = (u * roots)[:, :32], (v * roots)[:, :32]
    rounded = [torch.cat([_grid(side[:, :2], 8), _grid(side[:, 2:], 3)], 1) for side in sides]
    entries = sum(delta.shape)
    return Stored((rounded[0] @ rounded[1].T).numpy(), entries * (2 * 8 + 30 * 3) + 32 * 2 * 16)


def _grid(columns: torch.Tensor, bits: int) -> torch.Tensor:
    """Each column on 2^bits − 1 levels up to its largest magnitude."""
    step = columns.abs().amax(0, keepdim=True).clamp_min(1e-30) / (2 ** (bits - 1) - 1)
    return torch.round(columns / step) * step


def tswitch(kept: float) -> Callable[[Matrix, int], Stored]:
    """T-Switch (Qi et al. 2024): mask of the largest, their signs, one scale a matrix."""

    def store(delta: Matrix, seed: int) -> Stored:
        del seed
        limit = np.quantile(np.abs(delta).ravel()[:: max(1, delta.size // 1_000_000)], 1 - kept)
        mask = np.abs(delta) > limit
        share = float(np.clip(mask.mean(), 1e-9, 1 - 1e-9))
        scale = float(np.linalg.norm(delta) / max(1.0, math.sqrt(float(mask.sum()))))
        entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) + share
        values = np.where(mask, np.sign(delta) * scale, 0).astype(np.float32)
        return Stored(values, delta.size * entropy + 16)

    return store


LOSSY: dict[str, Callable[[Matrix, int], Stored]] = {
    "int4, groups of 64": int4,
    "BitDelta": bitdelta,
    "T-Switch, 10% kept": tswitch(0.1),
    "DARE 0.9": dare(0.9),
    "DARE 0.99": dare(0.99),
    "SVD rank 32": svd(32),
    "SVD rank 8": svd(8),
    "mixed-precision SVD": mixed_svd,
}
RANDOM = ("DARE 0.9", "DARE 0.99")
"""Those that draw lots, and are measured with several seeds."""
