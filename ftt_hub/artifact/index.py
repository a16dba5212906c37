"""The index of a container (slot 0): which tensors there are and where their frames lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from ftt_hub.errors import CheckpointError, IntegrityError
from ftt_hub.support.canonical import canonical_json, digest_of
from ftt_hub.support.json_schema import validate
from ftt_hub.tensors.dtypes import DTYPES, DType
from ftt_hub.tensors.header import parse_json

MAX_INDEX_BYTES = 256 << 20

DELTA, UNCHANGED, ADDED = "delta", "unchanged", "added"
RESIZED, DROPPED, ALIAS = "resized", "dropped", "alias"


@dataclass(frozen=True)
class Block:
    """A run of whole rows, stored as one frame.

    Attributes:
        offset: First byte of the frame within its slot.
        length: Bytes of the frame; 0 when the block changes nothing.
        elements: Elements it decodes to.
        sha256: Hash of the frame's bytes.
    """

    offset: int
    length: int
    elements: int
    sha256: str


@dataclass(frozen=True)
class RawTensor:
    """The bytes a delta was made from: dtype, and sha256 of the little-endian raw data."""

    dtype: str
    sha256: str


@dataclass(frozen=True)
class TensorEntry:
    """One checkpoint tensor.

    Attributes:
        name: Checkpoint name.
        role: ``delta``; ``unchanged`` (no slot); ``added`` (the slot holds the values, as a
            delta from zero); ``resized`` (the first `source_rows` rows are deltas, the others
            values); ``dropped`` (only the source base has it); ``alias`` (a tied copy of `of`).
        dtype: Dtype of the delta, the wider of the two inputs.
        shape: Shape in the fine-tuned model (in the source base for dropped tensors).
        source: The source base's tensor, or ``None``.
        fine_tuned: The fine-tuned model's tensor, or ``None``.
        slot: Number of the slot, or ``None`` when nothing is stored.
        codec: Codec id of the frames.
        blocks: The frames, in row order.
        source_rows: For ``resized``: rows that the source base has.
        of: For ``alias``: the tensor it is tied to.
        norm: (‖Δ‖, ‖m_s‖) in float64, rounded to six digits.
        error: ‖Δ̂ − Δ‖ likewise, of a lossy codec.
    """

    name: str
    role: str
    dtype: DType
    shape: tuple[int, ...]
    source: RawTensor | None = None
    fine_tuned: RawTensor | None = None
    slot: int | None = None
    codec: str | None = None
    blocks: tuple[Block, ...] = ()
    source_rows: int | None = None
    of: str | None = None
    norm: tuple[float, float] | None = None
    error: float | None = None

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def row_elements(self) -> int:
        """Elements of one row; 1 for scalars."""
        return math.prod(self.shape[1:]) if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return sum(block.length for block in self.blocks)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form; absent values are left out."""
        value: dict[str, Any] = {
            "name": self.name,
            "role": self.role,
            "dtype": self.dtype.name,
            "shape": list(self.shape),
            "source": _raw_json(self.source),
            "fine_tuned": _raw_json(self.fine_tuned),
        }
        optional = {
            "slot": self.slot,
            "codec": self.codec,
            "source_rows": self.source_rows,
            "of": self.of,
            "norm": None if self.norm is None else list(self.norm),
            "error": self.error,
        }
        value.update({key: item for key, item in optional.items() if item is not None})
        if self.slot is not None:
            value["blocks"] = [[b.offset, b.length, b.elements, b.sha256] for b in self.blocks]
        return value


def _raw_json(raw: RawTensor | None) -> dict[str, str] | None:
    return None if raw is None else {"dtype": raw.dtype, "sha256": raw.sha256}


def _raw(value: dict[str, str] | None) -> RawTensor | None:
    return None if value is None else RawTensor(value["dtype"], value["sha256"])


def entry_from_json(value: dict[str, Any]) -> TensorEntry:
    """An entry from validated JSON.

    Raises:
        IntegrityError: Its blocks do not add up to its shape, or it has an impossible dtype.
    """
    name, dtype = value["name"], DTYPES.get(value["dtype"])
    if dtype is None:
        raise IntegrityError("unknown dtype", where=name, found=value["dtype"])
    norm = value.get("norm")
    entry = TensorEntry(
        name=name,
        role=value["role"],
        dtype=dtype,
        shape=tuple(value["shape"]),
        source=_raw(value["source"]),
        fine_tuned=_raw(value["fine_tuned"]),
        slot=value.get("slot"),
        codec=value.get("codec"),
        blocks=tuple(Block(*block) for block in value.get("blocks", ())),
        source_rows=value.get("source_rows"),
        of=value.get("of"),
        norm=None if norm is None else (norm[0], norm[1]),
        error=value.get("error"),
    )
    _check(entry)
    return entry


def _check(entry: TensorEntry) -> None:
    if entry.slot is None:
        if entry.role in (DELTA, ADDED, RESIZED):
            raise IntegrityError("has no slot", where=entry.name, found=f"role {entry.role}")
        return
    if not entry.dtype.is_float or entry.codec is None:
        raise IntegrityError("a slot needs a float dtype and a codec", where=entry.name)
    if sum(block.elements for block in entry.blocks) != entry.count:
        raise IntegrityError(
            "the blocks do not add up",
            where=entry.name,
            expected=f"{entry.count} elements",
            found=f"{sum(block.elements for block in entry.blocks)} elements",
        )
    end = 0
    for block in entry.blocks:
        if block.offset != end or block.elements % entry.row_elements:
            raise IntegrityError("the blocks are not whole rows back to back", where=entry.name)
        end += block.length
    if entry.role == RESIZED and not 0 <= (entry.source_rows or 0) <= (entry.shape or (0,))[0]:
        raise IntegrityError("source_rows exceeds the rows", where=entry.name)


def encode_index(entries: Sequence[TensorEntry]) -> bytes:
    """Slot 0: zstd-compressed canonical JSON, the same bytes for the same entries."""
    text = canonical_json({"tensors": [entry.to_json() for entry in entries]})
    compressor = zstandard.ZstdCompressor(level=9, write_content_size=True)
    return compressor.compress(text)


def decode_index(data: bytes, where: str) -> tuple[TensorEntry, ...]:
    """The entries of an untrusted slot 0.

    Raises:
        IntegrityError: Damaged, expands past the limit, or not as the schema says.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_INDEX_BYTES:
            raise IntegrityError(
                "the index is too large",
                where=where,
                expected=f"≤ {MAX_INDEX_BYTES} bytes",
                found=f"{size} bytes",
            )
        text = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(
            data, max_output_size=size, allow_extra_data=False
        )
        value = validate(parse_json(text, where), "index", where)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"the index is damaged ({str(error)[:80]})", where=where) from error
    except CheckpointError as error:
        raise IntegrityError(f"the index is damaged ({error.what})", where=where) from error
    entries = tuple(entry_from_json(item) for item in value["tensors"])
    _check_unique(entries, where)
    return entries


def _check_unique(entries: Sequence[TensorEntry], where: str) -> None:
    names = [entry.name for entry in entries]
    slots = [entry.slot for entry in entries if entry.slot is not None]
    if len(set(names)) != len(names) or sorted(slots) != list(range(1, len(slots) + 1)):
        raise IntegrityError("tensor names or slot numbers are not unique", where=where)


def model_digest(raws: dict[str, tuple[RawTensor, tuple[int, ...]]]) -> str:
    """Digest over all tensors of a model: dtype, shape and raw bytes of each, in name order."""
    return digest_of(
        {name: [raw.dtype, list(shape), raw.sha256] for name, (raw, shape) in raws.items()}
    )
