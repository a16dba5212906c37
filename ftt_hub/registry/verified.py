"""Verdicts added to a published adapter: `verified/<target-commit>.json` and a line in the card.

Neither belongs to the content that the manifest's digest covers, so that a version stays what it
was. The card's lines stand under a heading of their own; a line for the same target and adapter is
replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ftt_hub.artifact.card_editing import CARD_NAME, MAX_CARD_BYTES
from ftt_hub.errors import RefError
from ftt_hub.registry.abc import Record
from ftt_hub.support.staging import write_atomic, writing

FOLDER = "verified"
HEADING = "## Verified targets"
TITLES = ("Target", "Commit", "Adapter", "Depth", "Verdict", "Figures", "Tool")
MAX_RECORD_BYTES = 1 << 20
MAX_RECORDS = 20
"""Verdicts that are shown of one adapter."""
_KEY = re.compile(r"^(?:[0-9a-f]{40}|local-[0-9a-f]{40})$")
_SECTION = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BEFORE = re.compile(r"^## Limits$", re.MULTILINE)


def record_path(key: str) -> str:
    """Path of a record within an adapter.

    Raises:
        RefError: The key is no commit.
    """
    if _KEY.match(key) is None:
        raise RefError("not a target's commit", where=key[:80])
    return f"{FOLDER}/{key}.json"


def with_line(card: bytes | None, record: Record) -> bytes:
    """The card with the record's line; front matter and everything else stay as they are."""
    text = (card or b"")[:MAX_CARD_BYTES].decode("utf-8", "replace")
    section = _SECTION.search(text)
    lines = [] if section is None else [x for x in section[0].splitlines() if x.startswith("| ")]
    cells = [_cell(cell) for cell in record.cells]
    kept = [x for x in lines[1:] if _cells(x)[1:3] != cells[1:3]]
    table = ["| " + " | ".join(TITLES) + " |", "|" + "---|" * len(TITLES), *kept, _line(cells)]
    block = "\n".join((HEADING, "", *table, "", ""))
    if section is not None:
        return (text[: section.start()] + block + text[section.end() :]).encode()
    before = _BEFORE.search(text)
    if before is None:
        return f"{text.rstrip(chr(10))}\n\n{block}".encode()
    return (text[: before.start()] + block + text[before.start() :]).encode()


def _cell(text: str) -> str:
    """A text as one cell: printable, no bars, no markup that could open something."""
    plain = "".join(c if c.isprintable() and c not in "|<>[]" else " " for c in text[:300])
    return " ".join(plain.split())


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def add_to_folder(folder: Path, record: Record) -> str:
    """Add a record to an adapter's folder; returns where it lies.

    Raises:
        OutputError: The folder cannot be written.
    """
    path, card = folder / record_path(record.key), folder / CARD_NAME
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    write_atomic(path, record.data)
    write_atomic(card, with_line(card.read_bytes() if card.is_file() else None, record))
    return str(path)


def read_from_folder(folder: Path, key: str) -> bytes | None:
    """A record of an adapter's folder, ``None`` when there is none."""
    path = folder / record_path(key)
    if not path.is_file() or path.stat().st_size > MAX_RECORD_BYTES:
        return None
    return path.read_bytes()
