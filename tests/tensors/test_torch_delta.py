"""Torch's sums are delta's sums, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from random_bits import low_bits, random_bits

from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors import delta, torch_delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F16, F32, DType


@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=lambda d: d.name)
@pytest.mark.parametrize(("scale", "low"), [(1.0, False), (1.0, True), (0.5, False)])
@pytest.mark.parametrize("seed", range(3))
def test_torch_and_numpy_add_the_same_bits(
    dtype: DType, scale: float, low: bool, seed: int
) -> None:
    block = DeltaBlock(random_bits(dtype, seed), low_bits(dtype) if low else None, dtype)
    mine = random_bits(dtype, seed + 10)
    mine[::7] = block.hi[::7] ^ dtype.numpy.type(dtype.sign_bit)  # sums of exactly zero
    theirs = mine.copy()
    torch_delta.add(mine, block, dtype, scale=scale)
    delta.add(theirs, block, dtype, scale=scale)
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("dtype", [BF16, F16], ids=lambda d: d.name)
def test_overflow_and_nan_are_refused(dtype: DType) -> None:
    largest = np.full(4, dtype.infinity - 1, dtype.numpy)
    block = DeltaBlock(largest.copy(), None, dtype)
    with pytest.raises(NonFiniteError, match="overflows"):
        torch_delta.add(largest.copy(), block, dtype)
    with pytest.raises(NonFiniteError, match="NaN"):
        torch_delta.add(np.full(4, dtype.infinity + 1, dtype.numpy), block, dtype)


def test_read_only_and_strided_memory_is_added_right() -> None:
    bits = random_bits(BF16, 1)
    bits.flags.writeable = False
    block = DeltaBlock(bits, None, BF16)
    whole = random_bits(BF16, 2).repeat(2)
    strided, expected = whole[::2], whole[::2].copy()
    torch_delta.add(strided, block, BF16)
    delta.add(expected, block, BF16)
    assert np.array_equal(strided, expected)
