"""A sum where the parameter lies: Δ is decoded on the host, sent, and added on the device.

The bits are those of the host's sum: BF16 and F16 are added in float32 and rounded once, F32 is
added as it is. What torch has no form for is done on the host and sent.
"""

from __future__ import annotations

import numpy as np
import torch

from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors import delta, torch_delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.pinned import Ring
from ftt_hub.transfer.live import undo

_WORDS = {2: torch.int16, 4: torch.int32}


def host_bits(part: torch.Tensor, dtype: DType) -> Bits:
    """A copy of the bits on the host."""
    return part.to("cpu", copy=True).view(torch.uint8).numpy().view(dtype.numpy)


def add(part: torch.Tensor, block: DeltaBlock, dtype: DType, scale: float, ring: Ring) -> bytes:
    """Part ← part + λΔ in place.

    Args:
        part: A run of elements of the parameter, 1-D.
        block: Their delta.
        dtype: Of the parameter.
        scale: λ.
        ring: The way to the device.

    Returns:
        What `take_off` needs; the same bytes as the host's sum would give.

    Raises:
        NonFiniteError: The sum is not finite.
    """
    if not _is_plain(block, dtype, scale):
        old = host_bits(part, dtype)
        new = old.copy()
        torch_delta.add(new, block, dtype, scale=scale)
        part.copy_(ring.send(new).view(part.dtype))
        return undo.record(old, new, block, dtype, scale)
    old_part, change = part.clone(), ring.send(block.hi).view(part.dtype)
    where = block.places
    if where.size:
        index = ring.send(where.astype(np.int64)).view(torch.int64)
        _, sums = delta.sums_with_lo(host_bits(part[index], dtype), block.part(where), dtype)
        part.add_(change)
        part[index] = ring.send(sums).view(part.dtype)
    else:
        part.add_(change)
    if not bool(torch.isfinite(part).all()):
        raise NonFiniteError("target + delta overflows, or the target holds NaN or infinity")
    word = _WORDS[dtype.itemsize]
    missed = _guess(part, change).view(word) ^ old_part.view(word)
    return undo.pack(host_bits(missed, dtype)) if bool(missed.any()) else b""


def take_off(
    part: torch.Tensor, block: DeltaBlock, dtype: DType, scale: float, log: bytes, ring: Ring
) -> None:
    """Part ← what it was before `add`, exactly.

    Raises:
        IntegrityError: The log is not of this parameter.
    """
    if not _is_plain(block, dtype, scale):
        old = undo.restore(host_bits(part, dtype), block, dtype, scale, log)
        part.copy_(ring.send(old).view(part.dtype))
        return
    part.copy_(_guess(part, ring.send(block.hi).view(part.dtype)))
    if log:
        word = _WORDS[dtype.itemsize]
        missed = ring.send(undo.unpack(log, part.numel(), dtype)).view(word)
        part.view(word).bitwise_xor_(missed)


def _is_plain(block: DeltaBlock, dtype: DType, scale: float) -> bool:
    return scale == 1.0 and block.dtype == dtype


def _guess(new: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """What the host's undo log guesses, too: new − hi, or new where that overflows."""
    guess = change.neg().add_(new)
    return guess if bool(torch.isfinite(guess).all()) else new
