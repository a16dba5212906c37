"""Reading a container: frames by slot and block, checked before they are decoded."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ftt_hub.artifact.index import TensorEntry, decode_index
from ftt_hub.codecs.catalogue import codec
from ftt_hub.codecs.lossy.factors import FixedFactors
from ftt_hub.errors import CheckpointError, CodecError, IntegrityError
from ftt_hub.support.closing import Closing
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import DTYPES, Bits, DType, wider
from ftt_hub.tensors.file import SafetensorsFile
from ftt_hub.tensors.header import TensorInfo

CONTAINER_NAME = "adapter_model.safetensors"
CONTAINER_INDEX = "adapter_model.safetensors.index.json"
_SHARD = re.compile(r"^adapter_model-\d{5}-of-\d{5}\.safetensors$")
_KEY = re.compile(r"^base_model\.model\.transfer_slots\.(\d{1,7})\._extra_state$")


def weight_dtype(entry: TensorEntry) -> DType:
    """Dtype of a tensor's weights: that of Δ, unless the codec stores Δ in a dtype of its own.

    Raises:
        UnsupportedError: This release does not know the codec.
    """
    if entry.codec is None or codec(entry.codec).delta_dtype is None:
        return entry.dtype
    raws = [raw for raw in (entry.source, entry.fine_tuned) if raw is not None]
    float_dtypes = [d for raw in raws if (d := DTYPES.get(raw.dtype)) is not None and d.is_float]
    return functools.reduce(wider, float_dtypes) if float_dtypes else entry.dtype


def slot_key(slot: int) -> str:
    """Name of a slot in the safetensors file; PEFT and transformers route it by this name."""
    return f"base_model.model.transfer_slots.{slot}._extra_state"


def is_shard_name(name: str) -> bool:
    """Whether a file name is that of one part of a split container."""
    return _SHARD.match(name) is not None


def container_files(folder: Path) -> list[Path]:
    """The one container file of an adapter folder, or its shards.

    Raises:
        IntegrityError: There is none, or the shard index is malformed.
    """
    single, index = folder / CONTAINER_NAME, folder / CONTAINER_INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        raise IntegrityError("missing", where=single, hint="The adapter is incomplete.")
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("is malformed", where=index) from error
    if not names or not all(isinstance(n, str) and _SHARD.match(n) for n in names):
        raise IntegrityError("names impossible shards", where=index)
    return [folder / name for name in sorted(names)]


class SlotFile(Protocol):
    """Where the bytes of slots lie."""

    path: Path
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset."""

    def close(self) -> None:
        """Release the file."""


class SourceBits(Protocol):
    """The source base's weights, checked before use (`artifact.anchor`)."""

    def bits(self, entry: TensorEntry, start: int, count: int) -> Bits:
        """Bits of a run of elements, in the delta's dtype."""

    @property
    def close(self) -> Callable[[], None]:
        """Releases them, where they are the container's own."""


class Container(Closing):
    """The frames of an adapter folder, opened for ranged reads from many threads.

    Attributes:
        entries: Checkpoint name → entry of the index.
        anchor: The source base, which anchored frames are decoded against.

    Raises:
        IntegrityError: A file is missing, truncated or not a container.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.anchor: SourceBits | None = None
        self._files: list[SlotFile] = []
        self._slots: dict[int, tuple[SlotFile, TensorInfo]] = {}
        try:
            self._open_all()
            self.entries = {entry.name: entry for entry in self._read_index()}
            for entry in self.entries.values():
                self._check_slot(entry)
        except CheckpointError as error:
            self.close()
            raise IntegrityError(
                error.what,
                where=error.where,
                expected=error.expected,
                found=error.found,
                hint="The adapter is damaged: download it again.",
            ) from error
        except IntegrityError:
            self.close()
            raise

    def _open_all(self) -> None:
        for path in container_files(self.folder):
            self._open(path)

    def _open(self, path: Path) -> None:
        file = SafetensorsFile(path)
        self._files.append(file)
        for name, info in file.tensors.items():
            match = _KEY.match(name)
            if match is None or info.dtype.name != "U8" or len(info.shape) != 1:
                raise IntegrityError(f"tensor {name[:100]!r} is not a slot", where=path)
            self._slots[int(match[1])] = (file, info)

    def _read_index(self) -> tuple[TensorEntry, ...]:
        if 0 not in self._slots:
            raise IntegrityError("has no index (slot 0)", where=self._files[0].path)
        return decode_index(self._slot_bytes(0), str(self._files[0].path))

    def _slot_bytes(self, slot: int) -> bytes:
        file, info = self._slots[slot]
        return file.read(info.start, info.nbytes)

    def _check_slot(self, entry: TensorEntry) -> None:
        if entry.slot is None:
            return
        stored = self._slots.get(entry.slot)
        if stored is None or stored[1].nbytes != entry.nbytes:
            raise IntegrityError(
                f"slot {entry.slot} of tensor {entry.name!r} has another size",
                where=self.folder,
                expected=f"{entry.nbytes} bytes",
                found="no such slot" if stored is None else f"{stored[1].nbytes} bytes",
            )

    @property
    def num_slots(self) -> int:
        """Number of slots, the index included."""
        return len(self._slots)

    @property
    def needs_source(self) -> bool:
        """Whether some frames decode against the source base only."""
        return any(
            e.codec is not None and codec(e.codec).needs_source for e in self.entries.values()
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all container files."""
        return sum(file.size for file in self._files)

    def frame(self, entry: TensorEntry, number: int) -> bytes:
        """The bytes of one block's frame, checked against their hash.

        Raises:
            IntegrityError: They do not match the index.
        """
        if entry.slot is None:
            raise IntegrityError("stores no frames", where=entry.name)
        block = entry.blocks[number]
        file, info = self._slots[entry.slot]
        try:
            data = file.read(info.start + block.offset, block.length)
        except CheckpointError as error:
            raise IntegrityError(error.what, where=error.where) from error
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != block.sha256:
            raise IntegrityError(
                f"block {number} does not match its hash",
                where=f"{self.folder}: {entry.name}",
                expected=block.sha256[:16],
                found=sha256[:16],
                hint="The adapter is damaged: download it again.",
            )
        return data

    def decode(self, entry: TensorEntry, number: int) -> DeltaBlock:
        """The delta of one block.

        Raises:
            IntegrityError: The frame does not match its hash or does not decode.
            IncompatibleError: It decodes against the source base, and `anchor` is another model.
        """
        frame, frame_codec = self.frame(entry, number), codec(entry.codec or "")
        elements = entry.blocks[number].elements
        source = None
        if frame_codec.needs_source and self.anchor is not None and frame:
            first = sum(block.elements for block in entry.blocks[:number])
            source = self.anchor.bits(entry, first, elements)
        opening = self.frame(entry, 0) if frame_codec.needs_first and number and frame else None
        try:
            return frame_codec.decode(frame, elements, entry.dtype, source, opening)
        except CodecError as error:
            raise self._damaged(error, f"{entry.name}, block {number}") from error

    def _damaged(self, error: CodecError, what: str) -> CodecError:
        return CodecError(
            error.what,
            where=f"{self.folder}: {what}",
            expected=error.expected,
            found=error.found,
            hint="The adapter is damaged: download it again.",
        )

    def factors(self, entry: TensorEntry) -> FixedFactors | None:
        """The factors that a tensor's Δ is stored as, ``None`` where it is stored otherwise.

        Raises:
            IntegrityError: A frame does not match its hash or does not decode.
        """
        if entry.codec is None or not entry.blocks or not entry.blocks[0].length:
            return None
        frames = ((self.frame(entry, n), block.elements) for n, block in enumerate(entry.blocks))
        try:
            return codec(entry.codec).factors(frames, entry.row_elements)
        except CodecError as error:
            raise self._damaged(error, entry.name) from error

    def decode_range(
        self, entry: TensorEntry, start: int, count: int
    ) -> Iterator[tuple[int, DeltaBlock]]:
        """The deltas of elements [start, start + count), by block, each with its first element.

        Only the blocks that the range touches are read and decoded.
        """
        first = 0
        for number, block in enumerate(entry.blocks):
            last = first + block.elements
            if first < start + count and last > start:
                delta = self.decode(entry, number)
                low, high = max(start, first), min(start + count, last)
                if (low, high) != (first, last):
                    delta = delta.part(np.s_[low - first : high - first])
                yield low, delta
            first = last

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        if self.anchor is not None:
            self.anchor.close()
