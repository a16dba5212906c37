"""The page's parts as HTML: the list of adapters, one adapter, and what went wrong.

The templates escape every value; only a card, which `cards.card_html` has made safe, is markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.catalogue.browse import BrowseEntry, Page, stored_bytes
from ftt_hub.errors import FttError
from ftt_hub.support.findings import CompatibilityReport

if TYPE_CHECKING:
    from jinja2 import Environment

    from ftt_hub.catalogue.listed import ListedAdapter
    from ftt_hub.web.heat import HeatMap
    from ftt_hub.web.selection import Selection

FITS = {
    "accepted": ("✓", "Compatible"),
    "warned": ("!", "With warnings"),
    "rejected": ("✕", "Not compatible"),
}
_REASONS = 2
_BREAKS = re.compile(r"(?<=[._])(?=\w)")


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(size=size, day=day, figure=figure, breakable=breakable)
    made.globals["fits"] = FITS
    return made


def size(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} GB"


def day(moment: str | None) -> str:
    """The day of an ISO 8601 moment."""
    return (moment or "")[:10]


def figure(value: float) -> str:
    """A measured number, four digits of it."""
    return f"{value:,.4g}"


def breakable(name: str) -> str:
    """Text that may be broken after its dots and underscores; escaped."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(name))


def reasons(report: CompatibilityReport) -> list[str]:
    """Why a target fits as it does, the gravest first."""
    return [f.reason for f in report.findings if f.status == report.status][:_REASONS]


def _row(entry: BrowseEntry, selection: Selection) -> dict[str, object]:
    config, report = entry.listing.config, entry.compatibility
    namespace, _, name = entry.listing.name.partition("/")
    fit = None
    if report is not None:
        why = [] if report.status == "accepted" else reasons(report)
        fit = {"status": str(report.status.value), "reasons": why}
    return {
        "listing": entry.listing,
        "config": config,
        "namespace": namespace,
        "name": name,
        "bytes": stored_bytes(entry.listing),
        "fit": fit,
        "address": _address_of(entry.listing.name, selection.target),
    }


def _address_of(name: str, target: str) -> str:
    from urllib.parse import urlencode

    return "?" + urlencode({"adapter": name, **({"target": target} if target else {})}, safe="/")


def results(
    page: Page, selection: Selection, page_rows: int, trouble: FttError | None = None
) -> str:
    """The list.

    Args:
        page: The adapters to list.
        selection: The filters, order and target.
        page_rows: Adapters per page.
        trouble: Why the target could not be checked.
    """
    pages = max(1, -(-page.total // page_rows))
    return (
        _templates()
        .get_template("results.html")
        .render(
            rows=[_row(entry, selection) for entry in page.entries],
            total=page.total,
            pages=pages,
            selection=selection,
            trouble=trouble,
            counted=any(entry.listing.downloads is not None for entry in page.entries),
            checked=any(entry.compatibility is not None for entry in page.entries),
        )
    )


def failure(error: FttError, title: str, back: str | None = None) -> str:
    """A panel that says what went wrong and what to do next."""
    return _templates().get_template("failure.html").render(error=error, title=title, back=back)


def _text(value: object) -> str:
    return value[:300] if isinstance(value, str) else ""


def _verdict(commit: str, data: bytes, digest: str) -> dict[str, str] | None:
    """A record of `verified/`, as far as it can be read; anyone may have written it.

    ``None`` when it says that it is about other content, such as another version.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    record = value if isinstance(value, dict) else {}
    if record.get("content_digest", digest) != digest:
        return None
    status = _text(record.get("status"))
    return {
        "commit": commit[:40],
        "target": _text(record.get("target")),
        "status": status if status in FITS else "",
        "verdict": _text(record.get("verdict")) or _text(record.get("depth")),
    }


def snippets(description: ListedAdapter, target: str) -> Sequence[tuple[str, str, str]]:
    """How to load it: id, title and text of each."""
    listing = description.listing
    name, revision = listing.name, listing.revision
    base = target or listing.config.source_base.id
    pinned = "" if revision == "main" else f'    revision="{revision}",\n'
    python = (
        "import ftt_hub\n\n"
        "model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(\n"
        f'    "{name}",\n{pinned}    base_model="{_quoted(base)}",\n)'
    )
    ref = name if revision == "main" else f"{name}@{revision}"
    shell = (
        f"pip install ftt-hub\nftt-hub verify {ref} --target {_word(base)}\n"
        f"ftt-hub apply {ref} --target {_word(base)} --out ./merged"
    )
    return (("python", "Python", python), ("shell", "Command line", shell))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _word(text: str) -> str:
    from shlex import quote

    return quote(text)


def adapter(
    description: ListedAdapter,
    target: str,
    card: str | None,
    heat: HeatMap | None,
    trouble: FttError | None = None,
) -> str:
    """The page of one adapter.

    Args:
        description: The adapter.
        target: Model it was checked against, empty without one.
        card: Its card as safe HTML.
        heat: The map of its norms.
        trouble: Why the target could not be checked.
    """
    listing, report = description.listing, description.compatibility
    digest = listing.config.content_digest
    records = [_verdict(*item, digest) for item in description.notes.verified.items()]
    return (
        _templates()
        .get_template("adapter.html")
        .render(
            listing=listing,
            config=listing.config,
            bytes=stored_bytes(listing),
            versions=description.versions,
            evaluations=description.evaluations,
            verified=[record for record in records if record is not None],
            card=card,
            heat=heat,
            report=report,
            target=target,
            trouble=trouble or description.problem,
            snippets=snippets(description, target),
            address=lambda version: f"{_address_of(listing.name, target)}&version={version}",
        )
    )
