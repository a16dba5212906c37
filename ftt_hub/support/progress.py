"""How long-running work reports its progress; who shows it decides how (`cli/progress.py`)."""

from __future__ import annotations

from typing import Protocol

BYTES = "bytes"


class Progress(Protocol):
    """Receives the progress of one named stage at a time; must be safe to call from threads."""

    def start(self, stage: str, total: int, unit: str = BYTES) -> None:
        """A stage begins.

        Args:
            stage: What is being done, such as ``extracting``.
            total: Amount of work, in `unit`.
            unit: Plural of what is counted: ``bytes``, ``weights``, ``steps``, ``windows``.
        """

    def advance(self, amount: int) -> None:
        """`amount` more units of the stage are done."""

    def finish(self) -> None:
        """The stage is over."""


class Silent:
    """Progress that is not shown."""

    def start(self, stage: str, total: int, unit: str = BYTES) -> None:
        """Ignored."""

    def advance(self, amount: int) -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""
