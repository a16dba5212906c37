"""Element types by their safetensors names, and numpy views of their bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ftt_hub.errors import FttError

Bits: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Raw bits of a tensor: uint16 for BF16 and F16, uint32 for F32."""


@dataclass(frozen=True)
class DType:
    """An element type.

    Attributes:
        name: The safetensors name, e.g. ``"BF16"``.
        bits: Width of an element in bits.
        rank: Place in the order of widths used when two dtypes meet; 0 for types that are not
            plain floats and on which no delta is computed.
        torch_name: The torch dtype of the same layout (``"bfloat16"``), or ``None``.
    """

    name: str
    bits: int
    rank: int = 0
    torch_name: str | None = None

    @property
    def is_float(self) -> bool:
        """Whether deltas are computed on this type (BF16, F16 and F32)."""
        return self.rank > 0

    @property
    def itemsize(self) -> int:
        """Bytes of one element (sub-byte types are only ever measured as whole tensors)."""
        return max(1, self.bits // 8)

    @property
    def numpy(self) -> np.dtype[Any]:
        """Unsigned numpy dtype that holds the raw bits of one element."""
        return np.dtype(f"<u{self.itemsize}")

    @property
    def sign_bit(self) -> int:
        """The sign bit of a float type; as a number also the bits of −0.0."""
        return int(1 << (self.bits - 1))

    @property
    def infinity(self) -> int:
        """Bits of +∞: every finite magnitude is below it."""
        return {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}[self.name]


BF16 = DType("BF16", 16, rank=1, torch_name="bfloat16")
F16 = DType("F16", 16, rank=1, torch_name="float16")
F32 = DType("F32", 32, rank=2, torch_name="float32")

DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        BF16,
        F16,
        F32,
        DType("F64", 64, torch_name="float64"),
        DType("C64", 64, torch_name="complex64"),
        DType("I64", 64, torch_name="int64"),
        DType("U64", 64, torch_name="uint64"),
        DType("I32", 32, torch_name="int32"),
        DType("U32", 32, torch_name="uint32"),
        DType("I16", 16, torch_name="int16"),
        DType("U16", 16, torch_name="uint16"),
        DType("I8", 8, torch_name="int8"),
        DType("U8", 8, torch_name="uint8"),
        DType("BOOL", 8, torch_name="bool"),
        DType("F8_E4M3", 8, torch_name="float8_e4m3fn"),
        DType("F8_E5M2", 8, torch_name="float8_e5m2"),
        DType("F8_E8M0", 8, torch_name="float8_e8m0fnu"),
        DType("F8_E4M3FNUZ", 8, torch_name="float8_e4m3fnuz"),
        DType("F8_E5M2FNUZ", 8, torch_name="float8_e5m2fnuz"),
        DType("F4", 4),
        DType("F6_E2M3", 6),
        DType("F6_E3M2", 6),
    )
}
BY_TORCH_NAME: dict[str, DType] = {
    dtype.torch_name: dtype for dtype in DTYPES.values() if dtype.torch_name is not None
}


def wider(first: DType, second: DType) -> DType:
    """The dtype in which a delta between two float dtypes is stored.

    BF16 and F16 hold different ranges and precisions; neither contains the other, so a mixed
    pair is widened to F32, which contains both.
    """
    if first == second:
        return first
    if first.rank == second.rank:
        return F32
    return first if first.rank > second.rank else second


def parse_dtype(name: str) -> DType:
    """A float dtype by its torch or safetensors name (``"bfloat16"``, ``"BF16"``).

    Raises:
        FttError: Not one of bfloat16, float16 and float32.
    """
    dtype = BY_TORCH_NAME.get(name) or DTYPES.get(name.upper())
    if dtype is None or not dtype.is_float:
        raise FttError("unknown dtype", where=name[:40], expected="bfloat16, float16 or float32")
    return dtype
