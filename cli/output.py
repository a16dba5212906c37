"""What commands print: data on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from ftt_hub.cli.text import printable

from ftt_hub.support.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

STATUS_STYLE = {"accepted": "green", "warned": "yellow", "rejected": "red"}


def print_json(value: object) -> None:
    """One JSON value on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def message(text: str) -> None:
    """One line on stderr."""
    click.echo(printable(text), err=True)


def print_line(text: str) -> None:
    """One line on stdout."""
    click.echo(printable(text))


def console() -> Console:
    """A console on stdout; wide enough to keep table rows on one line when piped."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def print_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; texts are shown as they are, never as markup."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_escape(cell) for cell in row))
    console().print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Label and value, a line each; only a terminal has them dressed and folded."""
    if not sys.stdout.isatty():
        width = max(map(len, facts), default=0)
        for label, value in facts.items():
            click.echo(f"{label:{width}}  {printable(value)}")
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts.items():
        table.add_row(label, _escape(value))
    console().print(table)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def quiet_loading() -> None:
    """No progress bars of transformers beside ours, while models are loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


class Bar:
    """Progress drawn by rich on stderr; a stage shows nothing before it has begun."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar, self._lock = bar, threading.Lock()
        self._task: TaskID | None = None

    def start(self, stage: str, total: int) -> None:
        """A stage begins."""
        with self._lock:
            self._task = self._bar.add_task(stage, total=total)

    def advance(self, amount: int) -> None:
        """More bytes are done."""
        with self._lock:
            if self._task is not None:
                self._bar.advance(self._task, amount)

    def finish(self) -> None:
        """The stage is over."""
        with self._lock:
            if self._task is not None:
                self._bar.update(self._task, completed=self._bar.tasks[-1].total)
            self._task = None


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress bar on stderr, drawn only on a terminal: elsewhere rich is not even imported."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        yield Bar(bar)
