"""A container's index by ranged reads: the header and slot 0, and not one frame."""

from __future__ import annotations

from collections.abc import Callable

from ftt_hub.artifact.index import MAX_INDEX_BYTES, TensorEntry, decode_index
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.artifact.reader import CONTAINER_NAME, is_shard_name, slot_key
from ftt_hub.errors import CheckpointError, IntegrityError
from ftt_hub.tensors.header import TensorInfo, header_length, parse_header

ReadRange = Callable[[str, int, int], bytes]
"""Reads a file's bytes: name, first byte, length; fewer at its end."""

BYTES_A_SLOT = 132
"""Approximate bytes of one slot in the header; the first read asks for so many."""
LARGEST_GUESS = 1 << 20
INDEX_GUESS = 16 << 10


def first_file(config: AdapterConfig, where: str) -> str:
    """The container file that holds slot 0.

    Raises:
        IntegrityError: The manifest lists no container.
    """
    names = [n for n in config.files if n == CONTAINER_NAME or is_shard_name(n)]
    if not names:
        raise IntegrityError("the manifest lists no container", where=where)
    return min(names)


def remote_entries(config: AdapterConfig, read: ReadRange, where: str) -> dict[str, TensorEntry]:
    """Checkpoint name → index entry, in two or three reads.

    Args:
        config: The manifest.
        read: Reads ranges of the adapter's files.
        where: The adapter, for messages.

    Raises:
        IntegrityError: The container is damaged, or is not the one of the manifest.
        HubError: A read failed.
    """
    name = first_file(config, where)
    size, file = int(config.files[name]["size"]), f"{where}/{name}"
    guess = min(size, LARGEST_GUESS, 8 + BYTES_A_SLOT * config.num_slots + INDEX_GUESS)
    head = read(name, 0, guess)

    def upto(end: int) -> bytes:
        return head if end <= len(head) else head + read(name, len(head), end - len(head))

    try:
        end = 8 + header_length(head, file, size)
        head = upto(end)
        slots, _ = parse_header(head[8:end], file, size)
        index = _index_slot(slots, file)
        head = upto(index.start + index.nbytes)
    except CheckpointError as error:
        raise IntegrityError(error.what, where=file, hint="The adapter is damaged.") from error
    entries = decode_index(head[index.start : index.start + index.nbytes], file)
    if name == CONTAINER_NAME:
        _check_slots(entries, slots, config, file)
    return {entry.name: entry for entry in entries}


def _index_slot(slots: dict[str, TensorInfo], where: str) -> TensorInfo:
    info = slots.get(slot_key(0))
    if info is None or info.dtype.name != "U8" or info.nbytes > MAX_INDEX_BYTES:
        raise IntegrityError("has no index (slot 0)", where=where)
    return info


def _check_slots(
    entries: tuple[TensorEntry, ...],
    slots: dict[str, TensorInfo],
    config: AdapterConfig,
    where: str,
) -> None:
    indexed = {slot_key(e.slot): e.nbytes for e in entries if e.slot is not None}
    stored = {key: info.nbytes for key, info in slots.items() if key != slot_key(0)}
    if indexed != stored or len(slots) != config.num_slots:
        raise IntegrityError(
            "the slots are not those of the index", where=where, hint="The adapter is damaged."
        )
