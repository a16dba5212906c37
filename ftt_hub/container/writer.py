"""Writing a container: slots arrive one by one in any order, survive a kill, and are put together.

While an adapter is made, every finished slot is a pair of files in a work folder: the payload and
its index entry, the entry renamed into place last. A later run finds them and does not redo them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ftt_hub.container.index import TensorEntry, encode_index, entry_from_json
from ftt_hub.container.reader import CONTAINER_INDEX, CONTAINER_NAME, slot_key
from ftt_hub.errors import IntegrityError
from ftt_hub.progress import Progress, Silent
from ftt_hub.staging import write_atomic, writing
from ftt_hub.tensors.header import build_header

MAX_SHARD_BYTES = 20 * 10**9
"""Size above which a container is split; PEFT's own loaders cannot read a split one."""

_METADATA = {"format": "pt", "ftt_hub": "1.0"}


class SlotStore:
    """Finished slots in a work folder, by a number the caller gives each tensor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with writing(folder):
            folder.mkdir(exist_ok=True)

    def payload_path(self, number: int) -> Path:
        """Where the frames of a tensor are written, before `commit`."""
        return self.folder / f"{number:07}.frames"

    def _entry_path(self, number: int) -> Path:
        return self.folder / f"{number:07}.json"

    def commit(self, number: int, entry: TensorEntry, facts: dict[str, object]) -> None:
        """Declare a tensor finished; its frames lie complete at `payload_path`."""
        value = {"entry": entry.to_json(), "facts": facts}
        write_atomic(self._entry_path(number), json.dumps(value).encode(), durable=False)

    def finished(self, number: int) -> tuple[TensorEntry, dict[str, object]] | None:
        """The entry and facts of a finished tensor, or ``None`` when it is to be done again."""
        path, payload = self._entry_path(number), self.payload_path(number)
        try:
            value = json.loads(path.read_bytes())
            entry = entry_from_json(value["entry"])
            size = payload.stat().st_size if entry.slot is not None else 0
        except (OSError, ValueError, KeyError, TypeError, IntegrityError):
            return None
        return (entry, value["facts"]) if size == entry.nbytes else None


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


def _write_shard(
    path: Path,
    slots: Iterable[int],
    sizes: Sequence[int],
    index: bytes,
    payloads: Sequence[Path],
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
            with payloads[slot - 1].open("rb") as payload:
                shutil.copyfileobj(payload, file, 1 << 20)
            progress.advance(sizes[slot])
        file.flush()
        os.fsync(file.fileno())


def write_container(
    folder: Path,
    entries: Sequence[TensorEntry],
    payloads: Sequence[Path],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> list[TensorEntry]:
    """Put the finished slots together in `folder`.

    Args:
        folder: An adapter folder being built.
        entries: All index entries, in name order; those with a slot are numbered anew from 1.
        payloads: Files with the frames of the entries that have a slot, in the same order.
        max_shard_bytes: Split above this size.
        progress: Watches.

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
    for name, slots in zip(names, shards, strict=True):
        _write_shard(folder / name, slots, sizes, index, payloads, watcher)
    watcher.finish()
    if total > 1:
        places = {slot_key(s): n for n, slots in zip(names, shards, strict=True) for s in slots}
        value = {"metadata": {"total_size": sum(sizes)}, "weight_map": places}
        write_atomic(folder / CONTAINER_INDEX, json.dumps(value, indent=2).encode())
    return numbered
