"""The undo log of one parameter: what subtracting Δ again does not give back.

new = RN(old + λΔ) loses bits, so RN(new − λΔ) is `old` only mostly. The log keeps the XOR of the
two, compressed: where Δ is small against the weights it is nearly all zeros. Removal computes the
same guess again and is therefore bit-exact, whatever the log weighs.
"""

from __future__ import annotations

import numpy as np
import zstandard

from ftt_hub.errors import IntegrityError, NonFiniteError
from ftt_hub.tensors import delta, torch_delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import Bits, DType

LEVEL = 1


def _guess(new: Bits, block: DeltaBlock, dtype: DType, scale: float) -> Bits:
    """`old` as far as arithmetic alone can tell; deterministic, and that is all it needs to be."""
    guess = new.copy()
    sign = block.hi.dtype.type(block.dtype.sign_bit)
    try:
        if scale == 1.0:
            torch_delta.add(guess, DeltaBlock(block.hi ^ sign, None, block.dtype), dtype)
        else:
            delta.add(guess, DeltaBlock(block.hi, None, block.dtype), dtype, scale=-scale)
    except NonFiniteError:
        return new.copy()
    return guess


def record(old: Bits, new: Bits, block: DeltaBlock, dtype: DType, scale: float) -> bytes:
    """What `restore` needs besides Δ.

    Args:
        old: Bits before the addition, 1-D.
        new: Bits after it.
        block: The delta that was added.
        dtype: Dtype of the parameter.
        scale: λ.
    """
    missed = _guess(new, block, dtype, scale)
    np.bitwise_xor(missed, old, out=missed)
    return pack(missed) if missed.any() else b""


def pack(missed: Bits) -> bytes:
    """What the guess misses, compressed a byte plane at a time."""
    planes = np.ascontiguousarray(missed.view(np.uint8).reshape(missed.size, -1).T)
    return zstandard.ZstdCompressor(level=LEVEL).compress(planes.data)


def unpack(log: bytes, count: int, dtype: DType) -> Bits:
    """The reverse of `pack`.

    Raises:
        IntegrityError: The log is not of so many elements.
    """
    size = count * dtype.itemsize
    try:
        raw = zstandard.ZstdDecompressor().decompress(log, max_output_size=size)
    except zstandard.ZstdError as error:
        raise IntegrityError("the undo log is damaged", hint="Load the model again.") from error
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype.numpy)


def restore(new: Bits, block: DeltaBlock, dtype: DType, scale: float, log: bytes) -> Bits:
    """The bits before the addition, exactly.

    Raises:
        IntegrityError: The log is not of this parameter.
    """
    old = _guess(new, block, dtype, scale)
    if not log:
        return old
    np.bitwise_xor(old, unpack(log, old.size, dtype), out=old)
    return old
