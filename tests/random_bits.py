"""Random finite bits of a dtype, for tests that compare two ways to add."""

from __future__ import annotations

import numpy as np

from ftt_hub.tensors import delta
from ftt_hub.tensors.dtypes import DType

SIZE = 3 * delta.CHUNK + 17


def random_bits(dtype: DType, seed: int) -> np.ndarray:
    """Finite values of every exponent, subnormals and both zeros, none above a quarter of max."""
    generator = np.random.default_rng(seed)
    magnitudes = generator.integers(0, dtype.infinity * 7 // 8, SIZE).astype(dtype.numpy)
    magnitudes[::13] = 0
    signs = generator.integers(0, 2, SIZE).astype(dtype.numpy) * dtype.numpy.type(dtype.sign_bit)
    return magnitudes | signs


def low_bits(dtype: DType) -> np.ndarray:
    lo = np.zeros(SIZE, dtype.numpy)
    lo[::5] = 3
    return lo
