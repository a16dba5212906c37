"""`delta.add` by torch where torch gives the same bits about four times as fast.

That is for F16, and for BF16 where there is no compiled code (`ftt_hub.kernels`).

Torch adds BF16 and F16 in float32 and rounds once, as `delta.add` does; a test compares the two on
random bits. What torch has no form for (lo, other scales, mixed dtypes) goes to `delta.add`.
"""

from __future__ import annotations

import numpy as np
import torch

from ftt_hub import kernels
from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F16, Bits, DType
from ftt_hub.tensors.rounding import all_finite

_CHUNK = 1 << 15
"""Elements that stay in the cache; from more of them torch would start threads of its own."""

_TYPES = {BF16: torch.bfloat16, F16: torch.float16}


def add(target: Bits, block: DeltaBlock, dtype: DType, *, scale: float = 1.0) -> None:
    """Target ← target + scale·Δ in place; the same bits and errors as `delta.add`."""
    kind = _TYPES.get(dtype)
    if dtype is BF16 and kernels.COMPILED is not None:
        kind = None
    plain = scale == 1.0 and block.dtype == dtype and target.flags.c_contiguous and target.size
    if kind is None or not plain or block.changed is not None:
        delta.add(target, block, dtype, scale=scale)
        return
    # Views, not copies; torch wants to be told about read-only memory, numpy only marks it.
    sums = torch.from_numpy(target.view(np.uint8)).view(kind)
    hi = np.require(block.hi, requirements=["C", "W"])
    change = torch.from_numpy(hi.view(np.uint8)).view(kind)
    where, special = delta.sums_with_lo(target, block, dtype)
    finite = True
    parts = zip(torch.split(sums, _CHUNK), torch.split(change, _CHUNK), strict=True)
    for number, (mine, theirs) in enumerate(parts):
        mine.add_(theirs)
        finite &= all_finite(target[number * _CHUNK : (number + 1) * _CHUNK], dtype)
    target[where] = special
    if not all_finite(special, dtype) or not (finite or all_finite(target, dtype)):
        raise NonFiniteError("target + delta overflows, or the target holds NaN or infinity")
