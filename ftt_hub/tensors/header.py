"""The header of a safetensors file: parsed, and checked before anything is allocated.

The layout (8 bytes little-endian length, JSON, data) is that of
https://huggingface.co/docs/safetensors/index#format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ftt_hub.errors import CheckpointError
from ftt_hub.support.special_floats import decoded_floats
from ftt_hub.tensors.dtypes import DTYPES, DType

MAX_HEADER_BYTES = 100_000_000
MAX_ELEMENTS = 1 << 50


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: what it is and where its bytes lie.

    Attributes:
        name: Checkpoint name.
        dtype: Element type.
        shape: Dimensions, slowest first.
        start: Offset of the first byte, from the beginning of the file.
        nbytes: Size in bytes.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def row_elements(self) -> int:
        """Elements of one row (the product of all dimensions but the first); 1 for scalars."""
        return math.prod(self.shape[1:]) if self.shape else 1


def _reject(where: str, what: str) -> CheckpointError:
    return CheckpointError(
        what,
        where=where,
        expected="a valid safetensors header",
        hint="The file is damaged or not a safetensors file: download it again.",
    )


def _reject_constant(value: str) -> float:
    raise ValueError(f"{value} is not allowed")


def parse_json(data: bytes, where: str, *, special_floats: bool = False) -> object:
    """JSON from an untrusted file; depth, huge integers and NaN give a `CheckpointError`.

    Args:
        data: The file's content.
        where: File name for messages.
        special_floats: Accept NaN and Infinity, bare or as ``{"__float__": "Infinity"}``, as
            Python and transformers write them into model configs.
    """
    constant = float if special_floats else _reject_constant
    try:
        value: object = json.loads(data, parse_constant=constant)
        return decoded_floats(value) if special_floats else value
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"not valid JSON ({str(error)[:120]})",
            where=where,
            hint="The file is damaged: download it again.",
        ) from error


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ELEMENTS


def _tensor(where: str, name: str, entry: object, origin: int, size: int) -> TensorInfo:
    if not isinstance(entry, dict):
        raise _reject(where, f"entry of tensor {name!r} is not an object")
    dtype = DTYPES.get(str(entry.get("dtype")))
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if dtype is None:
        raise _reject(where, f"tensor {name!r} has the unknown dtype {entry.get('dtype')!r:.40}")
    if not isinstance(shape, list) or not all(_is_index(n) for n in shape):
        raise _reject(where, f"tensor {name!r} has a bad shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_index, offsets)):
        raise _reject(where, f"tensor {name!r} has bad data_offsets")
    begin, end = offsets
    nbytes = math.prod(shape) * dtype.bits // 8
    if begin > end or end - begin != nbytes:
        raise _reject(where, f"tensor {name!r} spans {end - begin} bytes, its shape needs {nbytes}")
    if origin + end > size:
        raise CheckpointError(
            f"truncated file: tensor {name!r} ends past the end of the file",
            where=where,
            expected=f"at least {origin + end} bytes",
            found=f"{size} bytes",
            hint="Download or copy the file again.",
        )
    return TensorInfo(name, dtype, tuple(shape), origin + begin, nbytes)


def _check_no_overlap(where: str, tensors: Mapping[str, TensorInfo]) -> None:
    end = 0
    for info in sorted(tensors.values(), key=lambda t: (t.start, t.nbytes)):
        if info.start < end and info.nbytes:
            raise _reject(where, f"tensor {info.name!r} overlaps another one")
        end = max(end, info.start + info.nbytes)


def header_length(prefix: bytes, where: str, size: int) -> int:
    """Length of the JSON header from the first eight bytes, checked against the file size."""
    if len(prefix) < 8:
        raise CheckpointError(
            "truncated file",
            where=where,
            expected="a safetensors header",
            found=f"{size} bytes",
            hint="Download or copy the file again.",
        )
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES or 8 + length > size:
        raise CheckpointError(
            "the header is longer than the file",
            where=where,
            expected=f"at most {size - 8} bytes",
            found=f"{length} bytes",
            hint="The file is truncated or not a safetensors file: download it again.",
        )
    return length


def parse_header(
    header: bytes, where: str, size: int
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Tensors and metadata of a header.

    Args:
        header: The JSON header, without the eight bytes before it.
        where: File name for messages.
        size: Size of the whole file in bytes.

    Raises:
        CheckpointError: The header is malformed, or points outside the file.
    """
    raw = parse_json(header, where)
    if not isinstance(raw, dict):
        raise _reject(where, "the header is not a JSON object")
    metadata = raw.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _reject(where, "__metadata__ is not a map of strings")
    origin = 8 + len(header)
    tensors = {name: _tensor(where, name, entry, origin, size) for name, entry in raw.items()}
    _check_no_overlap(where, tensors)
    return tensors, metadata


def build_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]
) -> bytes:
    """Eight length bytes and JSON header for tensors laid out back to back, in the given order.

    Args:
        tensors: Name → (dtype name, shape, size in bytes).
        metadata: Free text entries.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape, nbytes) in tensors.items():
        span = [offset, offset + nbytes]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": span}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
