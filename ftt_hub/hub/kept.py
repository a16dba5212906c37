"""A bounded cache of ranges that were read from the Hub, by commit.

The folder ``HF_HOME/ftt-hub/ranges`` holds at most `FTT_HUB_RANGES_SIZE` bytes (default 512 MB; 0
keeps nothing). When a process has written a sixteenth of that, and on its first write, the ranges
that were not used for longest go until a quarter of the room is free. What a pinned commit holds
never changes, so an entry may go at any time and is never stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from pathlib import Path

from ftt_hub.errors import FttError, OutputError
from ftt_hub.support.sizes import parse_bytes
from ftt_hub.support.staging import write_atomic

VARIABLE = "FTT_HUB_RANGES_SIZE"
DEFAULT_BYTES = 512_000_000
KEPT_BYTES = 8 << 20
"""Ranges longer than this are not kept."""
_DAY = 86_400
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_written = 0
_pruned: set[Path] = set()


def capacity() -> int:
    """Bytes that the kept ranges may take.

    Raises:
        FttError: The variable does not hold a size.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT_BYTES
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise FttError(
            "not a size", where=VARIABLE, expected="bytes, such as 500MB", found=text[:40]
        ) from error


def _folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "ftt-hub" / "ranges"


def _place(name: str, commit: str, filename: str, start: int, length: int) -> Path:
    from huggingface_hub import constants

    key = "\n".join((constants.ENDPOINT, name, commit, filename, str(start), str(length)))
    digest = hashlib.sha256(key.encode()).hexdigest()
    return _folder() / digest[:2] / digest


def kept(name: str, commit: str, filename: str, start: int, length: int) -> bytes | None:
    """A range that was read before, ``None`` when it is not there any more."""
    path = _place(name, commit, filename, start, length)
    try:
        data = path.read_bytes()
        if time.time() - path.stat().st_mtime > _DAY:  # used today: once a day is often enough
            os.utime(path)
    except OSError:
        return None
    return data


def keep(name: str, commit: str, filename: str, start: int, data: bytes, length: int) -> None:
    """Keep a range, if it is small and there is room to be made.

    Raises:
        FttError: `FTT_HUB_RANGES_SIZE` does not hold a size.
    """
    room = capacity()
    if length > KEPT_BYTES or len(data) > room:
        return
    path = _place(name, commit, filename, start, length)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except (OSError, OutputError):
        return  # a cache that cannot be written is no cache
    if _is_time(len(data), room):
        prune(room)


def _is_time(written: int, room: int) -> bool:
    global _written
    with _lock:
        folder = _folder()
        _written += written
        if folder in _pruned and _written * 16 < room:
            return False
        _pruned.add(folder)
        _written = 0
        return True


def prune(room: int) -> int:
    """Remove the ranges that were not used for longest, when they take more than `room` bytes.

    Returns:
        Bytes that were removed; other processes may do the same at the same time.
    """
    ranges = []
    for path in _folder().glob("*/*"):
        with contextlib.suppress(OSError):
            facts = path.stat()
            ranges.append((facts.st_mtime, facts.st_size, path))
    taken, removed = sum(size for _, size, _ in ranges), 0
    if taken <= room:
        return 0
    for _, size, path in sorted(ranges, key=lambda item: item[0]):
        if taken - removed <= room * 3 // 4:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        removed += size
    _log.debug("removed %d bytes of kept ranges", removed)
    return removed
