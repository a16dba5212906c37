"""How others store a diff vector: bytes of lossless forms, and Δ̂ with its bits of lossy ones.

Each is written down from its paper or source, on the same tensors that ours gets. Lossy methods see
matrices only; everyone's 1-D tensors stay exact. Where a paper leaves a choice, or its code makes
one that harms it here, the choice is in the peer's favour and stands in its docstring.
`bitdelta.py` trains BitDelta's scales.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import zstandard
from low_rank import mixed_svd, svd
from numpy.typing import NDArray
from stored import Matrix, Stored

from ftt_hub.codecs.quantized import pack

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


def int4(delta: Matrix, seed: int) -> Stored:
    """4 bits in groups of 64 with an absmax scale, in fp16 relative to the matrix's largest."""
    del seed
    groups = np.pad(delta.ravel(), (0, -delta.size % 64)).reshape(-1, 64)
    largest = np.abs(groups).max(1, keepdims=True) / np.float32(7)
    unit = max(float(largest.max()) / 60_000, 1e-37)  # keeps fp16 clear of its subnormal numbers
    scale = (largest / unit).astype(np.float16).astype(np.float32) * np.float32(unit)
    levels = np.clip(np.rint(groups / np.where(scale == 0, 1, scale)), -8, 7)
    values = (levels * scale).ravel()[: delta.size].reshape(delta.shape)
    return Stored(values.astype(np.float32), delta.size * 4 + len(groups) * 16 + 32)


def signs(delta: Matrix, seed: int) -> Matrix:
    """±1; zeros get one by lot: its own code gives all of them +1, a change that adds up."""
    lots = np.random.default_rng([seed, zlib.crc32(delta.tobytes())]).integers(0, 2, delta.shape)
    return np.where(delta == 0, 2 * lots - 1, np.sign(delta)).astype(np.float32)


def bitdelta(delta: Matrix, seed: int) -> Stored:
    """BitDelta (Liu et al. 2024) before training: sign and one scale a matrix, mean |Δ|."""
    return Stored(signs(delta, seed) * np.float32(np.abs(delta).mean()), delta.size + 32)


def dare(rate: float) -> Callable[[Matrix, int], Stored]:
    """DARE (Yu et al. 2024): drop at random, rescale.

    The places follow from a seed and cost nothing. The values that are kept are rounded to an
    eighth of their root mean square, a fiftieth of the noise of dropping, and take the bytes of
    our entropy coder.
    """

    def store(delta: Matrix, seed: int) -> Stored:
        lots = np.random.default_rng([seed, zlib.crc32(delta.tobytes())])
        keep = lots.random(delta.shape, dtype=np.float32) >= rate
        kept = delta[keep] / np.float32(1 - rate)
        step = max(float(np.sqrt(np.square(kept, dtype=np.float64).mean())) / 8, 1e-30)
        levels = np.rint(kept / np.float32(step)).astype(np.int16)
        values = np.zeros(delta.shape, np.float32)
        values[keep] = levels * np.float32(step)
        narrow = np.int8 if np.abs(levels).max(initial=0) < 128 else np.int16
        return Stored(values, 8 * len(pack(levels.astype(narrow), step)) + 32)

    return store


def tswitch(kept: float) -> Callable[[Matrix, int], Stored]:
    """T-Switch (Qi et al. 2024): mask of the largest, their signs, one scale a matrix.

    The scale keeps the norm; mask and signs are counted at their entropy.
    """

    def store(delta: Matrix, seed: int) -> Stored:
        del seed
        mask = np.abs(delta) > _limit(delta, kept)
        share = float(np.clip(mask.mean(), 1e-9, 1 - 1e-9))
        scale = float(np.linalg.norm(delta) / max(1.0, math.sqrt(float(mask.sum()))))
        values = np.where(mask, np.sign(delta) * scale, 0).astype(np.float32)
        return Stored(values, delta.size * (_mask_bits(share) + share) + 32)

    return store


def flexswitch(error: float) -> Callable[[Matrix, int], Stored]:
    """FlexSwitch: the largest changes in a width chosen a matrix, by the cheapest storage.

    Its learning of thresholds and widths is replaced by a search: of kept shares 2–100% and widths
    1–4 bits, the fewest bits whose relative error is at most `error`. Storages: a mask at its
    entropy with the kept values in their width, or all levels at their joint entropy.
    """

    def store(delta: Matrix, seed: int) -> Stored:
        del seed
        total = float(np.square(delta, dtype=np.float64).sum())
        best = Stored(delta, 16.0 * delta.size)
        for kept in (0.02, 0.05, 0.1, 0.2, 0.4, 1.0):
            mask = np.abs(delta) > (_limit(delta, kept) if kept < 1 else 0)
            magnitudes = np.abs(delta[mask])
            if not magnitudes.size:
                continue
            for width in (1, 2, 3, 4):
                step = _fitted(magnitudes, 2 ** (width - 1))
                levels = _levels(magnitudes, step, 2 ** (width - 1))
                values = np.zeros(delta.shape, np.float32)
                values[mask] = np.sign(delta[mask]) * levels * np.float32(step)
                spoilt = float(np.square(values - delta, dtype=np.float64).sum())
                share = magnitudes.size / delta.size
                counts = np.unique(levels, return_counts=True)[1] / levels.size
                entropy = float(-(counts * np.log2(counts)).sum()) + 1
                bits = delta.size * (_mask_bits(share) + share * min(width, entropy)) + 32
                if spoilt <= error * error * total and bits < best.bits:
                    best = Stored(values, bits)
        return best

    return store


def _limit(delta: Matrix, kept: float) -> float:
    """|Δ| above which this share of a matrix lies."""
    return float(np.quantile(np.abs(delta).ravel()[:: max(1, delta.size // 1_000_000)], 1 - kept))


def _mask_bits(share: float) -> float:
    """Entropy of a mask, bits an element."""
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)


def _levels(magnitudes: Matrix, step: float, largest: int) -> Matrix:
    """Levels 1 … largest."""
    return np.clip(np.rint(magnitudes / np.float32(step)), 1, largest)


def _fitted(magnitudes: Matrix, largest: int) -> float:
    """A step with nearly the least squared error, alternating between levels and step."""
    sample = magnitudes[:: max(1, magnitudes.size // 100_000)].astype(np.float64)
    step = 2 * float(sample.mean()) / (largest + 1)
    for _ in range(8):
        levels = np.clip(np.rint(sample / step), 1, largest)
        step = float(sample @ levels) / float(levels @ levels)
    return step


LOSSY: dict[str, Callable[[Matrix, int], Stored]] = {
    "int4, groups of 64": int4,
    "BitDelta": bitdelta,
    "T-Switch, 10% kept": tswitch(0.1),
    "FlexSwitch, error 0.3": flexswitch(0.3),
    "DARE 0.9": dare(0.9),
    "DARE 0.99": dare(0.99),
    "SVD rank 32": svd(32),
    "SVD rank 8": svd(8),
    "mixed-precision SVD": mixed_svd,
}
RANDOM = ("DARE 0.9", "DARE 0.99")
"""Those that draw lots, and are measured with several seeds."""
