"""What was done: a file that outlives kills, so that no finished step is done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftt_hub.errors import CheckpointError, OutputError, RecycleError
from ftt_hub.support.staging import locked, write_atomic
from ftt_hub.tensors.header import parse_json

STATE_NAME = "state.json"
_FORMAT = 1


@dataclass
class LoopState:
    """The progress of a recipe.

    Attributes:
        path: The file.
        steps: Step → ``inputs`` (content hashes and settings), ``losses`` and, when finished,
            ``result``.
        hashes: File → [bytes, modification time, sha256], so that unchanged files are read once.
    """

    path: Path
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    hashes: dict[str, list[Any]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file; a reader sees the old one or the new one."""
        value = {"format": _FORMAT, "steps": self.steps, "hashes": self.hashes}
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_atomic(self.path, text.encode())

    def result(self, step: str) -> dict[str, Any] | None:
        """What a finished step gave; ``None`` when it is not finished."""
        result: dict[str, Any] | None = self.steps.get(step, {}).get("result")
        return result

    def losses(self, step: str) -> dict[str, Any]:
        """Held-out losses measured so far."""
        losses: dict[str, Any] = self.steps.setdefault(step, {}).setdefault("losses", {})
        return losses

    def begin(self, step: str, inputs: dict[str, Any]) -> bool:
        """Note what a step starts from.

        Returns:
            Whether its unfinished work can be continued.

        Raises:
            RecycleError: It is finished, and was made from something else.
        """
        recorded = self.steps.get(step)
        inputs = json.loads(json.dumps(inputs))
        before: dict[str, Any] = {} if recorded is None else recorded["inputs"]
        if before == inputs:
            return True
        if recorded is not None and "result" in recorded:
            keys = sorted({*before, *inputs})
            changed = [key for key in keys if before.get(key) != inputs.get(key)]
            raise RecycleError(
                f"step {step} is finished, but was made with another {', '.join(changed)}",
                where=self.path,
                hint="Name another folder as out, or restore the recipe.",
            )
        self.steps[step] = {"inputs": inputs}
        self.save()
        return False

    def finish(self, step: str, result: dict[str, Any]) -> None:
        """Note that a step is done."""
        self.steps[step]["result"] = result
        self.save()

    def digest(self, path: Path) -> str:
        """sha256 of a file, from memory when size and time are what they were."""
        facts = path.stat()
        known = self.hashes.get(str(path.resolve()))
        if known is not None and known[:2] == [facts.st_size, facts.st_mtime_ns]:
            return str(known[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.hashes[str(path.resolve())] = [facts.st_size, facts.st_mtime_ns, digest]
        return digest


def read_state(out: Path) -> LoopState:
    """The state of an output folder; an empty one when nothing was done.

    Raises:
        RecycleError: The file is damaged or of a later release.
    """
    path = out / STATE_NAME
    if not path.is_file():
        return LoopState(path)
    try:
        value = parse_json(path.read_bytes(), str(path))
    except CheckpointError as error:
        raise RecycleError(error.what, where=path, hint="Delete it to start over.") from error
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise RecycleError(
            "not a state file of this release",
            where=path,
            hint="Use the release that made it, or name another folder as out.",
        )
    return LoopState(path, value["steps"], value["hashes"])


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Keep other runs out of an output folder for the length of a `with` block.

    Raises:
        OutputError: Another run works there.
    """
    busy = OutputError("another run works in this folder", where=out, hint="Wait for it to end.")
    with locked(out / ".lock", busy):
        yield
