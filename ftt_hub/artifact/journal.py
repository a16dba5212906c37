"""Slots before they form a container: they are finished in any order and survive a kill.

While an adapter is made, each worker appends frames to a pack file of its own, and one journal
takes a line for each finished slot: its index entry and where its frames lie. A line that a kill
cut short does not count, and frames without a line are never read. A later run reads the journals
of the earlier ones and writes its own.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ftt_hub.artifact.index import TensorEntry, entry_from_json
from ftt_hub.errors import IntegrityError
from ftt_hub.support.closing import Closing
from ftt_hub.support.staging import writing

_RUN = re.compile(r"(\d+)(?:-\d+\.frames|\.journal)$")
"""Names of the files of a run. A run that was killed early has a pack and no journal."""


@dataclass(frozen=True)
class Span:
    """A run of bytes of a file."""

    path: Path
    start: int
    length: int


@dataclass
class Pack:
    """A file that frames are appended to, by one thread at a time.

    Attributes:
        path: The file.
        file: Open for writing.
        start: Where the frames of the slot under way begin.
        end: Where the next one will begin.
    """

    path: Path
    file: BinaryIO
    start: int = 0
    end: int = 0

    def write(self, frame: bytes) -> int:
        """Append a frame."""
        with writing(self.path):
            self.end += self.file.write(frame)
        return len(frame)


class SlotStore(Closing):
    """Finished slots in a work folder, by a number the caller gives each tensor.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._free: list[Pack] = []
        self._packs: list[Pack] = []
        self._journal: BinaryIO | None = None
        self._finished: dict[int, tuple[TensorEntry, dict[str, object], Span | None]] = {}
        with writing(folder):
            folder.mkdir(exist_ok=True)
            names = sorted(path.name for path in folder.iterdir())
        self._run = 1 + max(
            (int(match[1]) for name in names if (match := _RUN.match(name))), default=0
        )
        for name in names:
            if name.endswith(".journal"):
                self._read(folder / name)

    def _read(self, path: Path) -> None:
        """Take what an earlier run finished; its last line may be cut off."""
        for line in path.read_bytes().split(b"\n"):
            try:
                value = json.loads(line)
                entry, span = entry_from_json(value["entry"]), None
                if entry.slot is not None:
                    name, start = value["frames"]
                    span = Span(self.folder / Path(name).name, start, entry.nbytes)
                    if span.path.stat().st_size < start + entry.nbytes:
                        continue
                self._finished[int(value["number"])] = (entry, value["facts"], span)
            except (OSError, ValueError, KeyError, TypeError, IntegrityError):
                continue

    @contextmanager
    def slot(self) -> Iterator[Pack]:
        """A pack to append the frames of one tensor to; then `commit` within the body."""
        with self._lock:
            pack = self._free.pop() if self._free else self._new_pack()
        pack.start = pack.end
        yield pack
        with self._lock:  # not after an error: a frame may have been written in part
            self._free.append(pack)

    def _new_pack(self) -> Pack:
        path = self.folder / f"{self._run:05}-{len(self._packs):03}.frames"
        with writing(path):
            pack = Pack(path, path.open("xb"))
        self._packs.append(pack)
        return pack

    def commit(
        self, number: int, entry: TensorEntry, facts: dict[str, object], pack: Pack | None = None
    ) -> None:
        """Declare a tensor finished; with a slot, its frames are what was written to the pack."""
        value: dict[str, Any] = {"number": number, "entry": entry.to_json(), "facts": facts}
        span = None
        if entry.slot is not None and pack is not None:
            with writing(pack.path):
                pack.file.flush()
            span = Span(pack.path, pack.start, entry.nbytes)
            value["frames"] = [pack.path.name, pack.start]
        with self._lock, writing(self.folder):
            if self._journal is None:
                self._journal = (self.folder / f"{self._run:05}.journal").open("xb")
            self._journal.write(json.dumps(value).encode() + b"\n")
            self._journal.flush()
            self._finished[number] = (entry, facts, span)

    def finished(self, number: int) -> tuple[TensorEntry, dict[str, object]] | None:
        """The entry and facts of a finished tensor, or ``None`` when it is to be done again."""
        finished = self._finished.get(number)
        return None if finished is None else finished[:2]

    def span(self, number: int) -> Span:
        """Where the frames of a finished tensor with a slot lie.

        Raises:
            IntegrityError: It has none.
        """
        finished = self._finished.get(number)
        if finished is None or finished[2] is None:
            raise IntegrityError("a slot is missing", where=self.folder, found=number)
        return finished[2]

    def close(self) -> None:
        """Close the files; what they hold stays."""
        for file in (*(pack.file for pack in self._packs), self._journal):
            if file is not None:
                file.close()
