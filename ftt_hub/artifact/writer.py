"""Writing a container: finished slots are put together in one file, or a few."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ftt_hub.artifact.index import TensorEntry, encode_index
from ftt_hub.artifact.journal import Span
from ftt_hub.artifact.reader import CONTAINER_INDEX, CONTAINER_NAME, slot_key
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import write_atomic, writing
from ftt_hub.tensors.file import RangedFile
from ftt_hub.tensors.header import build_header

MAX_SHARD_BYTES = 20 * 10**9
"""Size above which a container is split; PEFT's own loaders cannot read a split one."""

_METADATA = {"format": "pt", "ftt_hub": "1.0"}
_PIECE = 1 << 20

Packs: TypeAlias = dict[Path, RangedFile]


def _shards(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Slot numbers by file, filled greedily."""
    shards: list[list[int]] = [[]]
    total = 0
    for slot, size in enumerate(sizes):
        if shards[-1] and total + size > limit:
            shards.append([])
            total = 0
        shards[-1].append(slot)
        total += size
    return shards


def _pieces(span: Span, packs: Packs) -> Iterator[bytes]:
    end = span.start + span.length
    for start in range(span.start, end, _PIECE):
        yield packs[span.path].read(start, min(_PIECE, end - start))


def _write_shard(
    path: Path,
    slots: Iterable[int],
    sizes: Sequence[int],
    index: bytes,
    payloads: Sequence[Span],
    packs: Packs,
    progress: Progress,
) -> None:
    names = list(slots)
    header = build_header({slot_key(s): ("U8", (sizes[s],), sizes[s]) for s in names}, _METADATA)
    with writing(path), path.open("wb") as file:
        file.write(header)
        for slot in names:
            if slot == 0:
                file.write(index)
                continue
            for piece in _pieces(payloads[slot - 1], packs):
                file.write(piece)
            progress.advance(sizes[slot])
        file.flush()
        os.fsync(file.fileno())


def write_container(
    folder: Path,
    entries: Sequence[TensorEntry],
    payloads: Sequence[Span],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> list[TensorEntry]:
    """Put the finished slots together in `folder`.

    Args:
        folder: An adapter folder being built.
        entries: All index entries, in name order; those with a slot are numbered anew from 1.
        payloads: Where the frames lie of the entries that have a slot, in the same order.
        max_shard_bytes: Split above this size.
        progress: Receives progress events.

    Returns:
        The entries with their final slot numbers.
    """
    numbered: list[TensorEntry] = []
    slot = 0
    for entry in entries:
        slot += entry.slot is not None
        numbered.append(entry if entry.slot is None else replace(entry, slot=slot))
    index = encode_index(numbered)
    sizes = [len(index), *(e.nbytes for e in numbered if e.slot is not None)]
    shards = _shards(sizes, max_shard_bytes)
    total = len(shards)
    names = [
        CONTAINER_NAME if total == 1 else f"adapter_model-{i + 1:05}-of-{total:05}.safetensors"
        for i in range(total)
    ]
    watcher = progress or Silent()
    watcher.start("writing", sum(sizes))
    with ExitStack() as stack:
        packs = {p: stack.enter_context(RangedFile(p)) for p in {s.path for s in payloads}}
        for name, slots in zip(names, shards, strict=True):
            _write_shard(folder / name, slots, sizes, index, payloads, packs, watcher)
    watcher.finish()
    if total > 1:
        places = {slot_key(s): n for n, slots in zip(names, shards, strict=True) for s in slots}
        value = {"metadata": {"total_size": sum(sizes)}, "weight_map": places}
        write_atomic(folder / CONTAINER_INDEX, json.dumps(value, indent=2).encode())
    return numbered
