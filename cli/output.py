"""What commands print: data on stdout, messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ftt_hub.support.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console


def print_json(value: object) -> None:
    """One JSON value on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def message(text: str) -> None:
    """One line on stderr."""
    click.echo(printable(text), err=True)


def print_line(text: str) -> None:
    """One line on stdout."""
    click.echo(printable(text))


def size(nbytes: float) -> str:
    """Bytes for people: ``61.0 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"


def console() -> Console:
    """A console on stdout; wide enough to keep table rows on one line when piped."""
    from rich.console import Console

    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=200)


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
    """Label and value, one pair per line; styled and folded only on a terminal."""
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
    """Switch off the progress bars of transformers, which would be drawn beside ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
