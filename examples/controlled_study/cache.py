"""Finished stages: folders named by the content of what made them, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ftt_hub.support.staging import staged_folder

VERSION = 1
"""Raised when a stage computes something else from the same settings."""
_TIMES = "times.json"


def cache_dir() -> Path:
    """`$FTT_HUB_STUDY_CACHE`, else `ftt-hub/study` in the user's cache folder."""
    if chosen := os.environ.get("FTT_HUB_STUDY_CACHE"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ftt-hub" / "study"


@dataclass(frozen=True)
class Node:
    """A stage's place: a kind and a key over all that its content depends on."""

    kind: str
    key: str

    @classmethod
    def of(cls, kind: str, *, after: tuple[Node, ...] = (), **facts: Any) -> Node:
        """The node of a stage with these settings after these stages."""
        text = json.dumps([VERSION, kind, [node.key for node in after], facts], sort_keys=True)
        return cls(kind, hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass(frozen=True)
class Cache:
    """A folder of finished stages."""

    root: Path

    def path(self, node: Node) -> Path:
        """Where a stage's folder is or will be."""
        return self.root / node.kind / node.key

    def made(self, node: Node, make: Callable[[Path], None]) -> Path:
        """The folder of a stage, made by `make` unless an earlier run finished it.

        A killed run leaves only a folder that the next one removes; a lock keeps two apart.

        Raises:
            OutputError: The disk is full or not writable.
        """
        path = self.path(node)
        if path.is_dir():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.is_dir():
                return path
            wall, processor = time.time(), time.process_time()
            with staged_folder(path) as folder:
                make(folder)
                times = {
                    "wall_s": round(time.time() - wall, 2),
                    "processor_s": round(time.process_time() - processor, 2),
                }
                (folder / _TIMES).write_text(json.dumps(times), encoding="utf-8")
        return path

    def times(self, node: Node) -> dict[str, float]:
        """What a finished stage took."""
        found: dict[str, float] = json.loads((self.path(node) / _TIMES).read_text("utf-8"))
        return found
