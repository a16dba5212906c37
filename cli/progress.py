"""Progress on stderr: a bar on a terminal, a plain line from time to time elsewhere.

A bar is live only while a stage runs. Between stages other libraries, such as the Hub client, may
draw bars of their own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ftt_hub.support.progress import BYTES, Progress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

DISABLE = "HF_HUB_DISABLE_PROGRESS_BARS"
LINE_SECONDS, LINE_SHARE, LONGEST_SILENCE = 10.0, 0.05, 60.0
"""A line comes 10 seconds after the last one if 5% more is done, and after a minute in any case."""


def are_bars_wanted() -> bool:
    """Whether live bars may be drawn: on a terminal, unless the user switched them off."""
    return sys.stderr.isatty() and not _is_disabled()


def _is_disabled() -> bool:
    """The variable as the Hub client reads it."""
    return os.environ.get(DISABLE, "").upper() in ("1", "ON", "YES", "TRUE")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Progress for the length of a `with` block; rich is imported only for a terminal."""
    if _is_disabled():
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield Lines()
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


class Bar:
    """Draws the running stage with rich."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: RichProgress | None = None

    def start(self, stage: str, total: int, unit: str = BYTES) -> None:
        """Show the bar of a new stage."""
        from rich.console import Console
        from rich.progress import Progress as RichProgress

        with self._lock:
            self._stop()
            self._live = RichProgress(*_columns(unit), console=Console(stderr=True))
            self._live.add_task(stage, total=total)
            self._live.start()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        with self._lock:
            if self._live is not None:
                self._live.advance(self._live.task_ids[0], amount)

    def finish(self) -> None:
        """Fill the bar and leave it on the screen."""
        with self._lock:
            if self._live is not None:
                task = self._live.tasks[0]
                self._live.update(task.id, completed=task.total)
            self._stop()

    def close(self) -> None:
        """Stop drawing, also in the middle of a stage."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _columns(unit: str) -> tuple[ProgressColumn, ...]:
    """Bytes with their rate, anything else as a count."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
    if unit != BYTES:
        counted = "{task.completed:,.0f} of {task.total:,.0f} " + unit
        amount = (TextColumn(counted), TimeElapsedColumn())
    return (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())


class Lines:
    """Writes a plain line from time to time; a stage of a few seconds writes none.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock, self._clock = threading.Lock(), clock
        self._stage, self._unit, self._total, self._done = "", BYTES, 0, 0
        self._begun = self._last = 0.0
        self._shown: float | None = None

    def start(self, stage: str, total: int, unit: str = BYTES) -> None:
        """Begin a stage; nothing is written yet."""
        with self._lock:
            self._stage, self._unit, self._total, self._done = stage, unit, total, 0
            self._begun = self._last = self._clock()
            self._shown = None

    def advance(self, amount: int) -> None:
        """Count, and write a line when one is due."""
        with self._lock:
            self._done += amount
            now = self._clock()
            quiet, share = now - self._last, self._done / max(1, self._total)
            further = share - (self._shown or 0.0) >= LINE_SHARE
            if quiet >= LONGEST_SILENCE or (quiet >= LINE_SECONDS and further):
                self._write(share, now)

    def finish(self) -> None:
        """Write a last line if the stage has written any."""
        with self._lock:
            if self._shown is not None:
                seconds = self._clock() - self._begun
                click.echo(f"{self._stage}: done in {_minutes(seconds)}", err=True)
            self._shown = None

    def _write(self, share: float, now: float) -> None:
        self._last, self._shown = now, share
        left = (now - self._begun) * (1 - share) / share if 0 < share <= 1 else 0.0
        amounts = f"{self._amount(self._done)} of {self._amount(self._total)}"
        unit = "" if self._unit == BYTES else f" {self._unit}"
        line = f"{self._stage}: {share:.0%}, {amounts}{unit}, about {_minutes(left)} left"
        click.echo(line, err=True)

    def _amount(self, count: int) -> str:
        if self._unit != BYTES:
            return f"{count:,}"
        return f"{count / 1e9:.2f} GB" if self._total >= 10**9 else f"{count / 1e6:.1f} MB"


def _minutes(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
