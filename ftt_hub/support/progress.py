"""How long-running work tells how far it is; the command line draws it, libraries stay silent."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one named stage at a time; must be safe to call from threads."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins; `total` is in bytes."""

    def advance(self, amount: int) -> None:
        """`amount` more bytes of the stage are done."""

    def finish(self) -> None:
        """The stage is over."""


class Silent:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int) -> None:
        """Ignored."""

    def advance(self, amount: int) -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""
