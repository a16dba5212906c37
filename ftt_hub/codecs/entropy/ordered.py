"""Floats as integers in the order of their values, which an entropy coder takes well."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftt_hub.tensors.dtypes import Bits, DType

_CHUNK = 1 << 16  # elements whose temporaries stay in the processor's cache


def to_ordered(bits: Bits, dtype: DType) -> NDArray[np.signedinteger[Any]]:
    """Bits of finite floats as integers in value order: −0.0 → 0, +0.0 → 1, −k → −k, +k → k + 1.

    The map is a bijection on finite values, k being the bits of the magnitude.
    """
    signed: NDArray[np.signedinteger[Any]] = bits.view(np.dtype(f"<i{dtype.itemsize}"))
    ordered: NDArray[np.signedinteger[Any]] = np.right_shift(signed, dtype.bits - 1)
    np.bitwise_and(ordered, signed.dtype.type(dtype.sign_bit - 1), out=ordered)
    np.bitwise_xor(ordered, signed, out=ordered)
    np.add(ordered, signed.dtype.type(1), out=ordered)
    return ordered


def from_ordered(plane: NDArray[np.signedinteger[Any]], dtype: DType) -> Bits:
    """Inverse of `to_ordered`; overwrites and returns the plane's own memory."""
    for start in range(0, plane.size, _CHUNK):
        part = plane[start : start + _CHUNK]
        np.subtract(part, part.dtype.type(1), out=part)
        mask = np.right_shift(part, dtype.bits - 1)
        np.bitwise_and(mask, part.dtype.type(dtype.sign_bit - 1), out=mask)
        np.bitwise_xor(part, mask, out=part)
    return plane.view(dtype.numpy)
