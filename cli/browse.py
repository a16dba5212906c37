"""`ftt-hub browse`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, registry_option

if TYPE_CHECKING:
    from ftt_hub.api import BrowseEntry

SORTS = ("name", "updated", "size")


@click.command("browse", epilog="Example: ftt-hub browse --language tr --target org/base-v2")
@click.option("--language", metavar="TAG", help="BCP-47 tag; tr also finds tr-TR.")
@click.option("--source-base", metavar="ID", help="Source base the adapters were made from.")
@click.option("--dataset", metavar="ID", help="Training dataset.")
@click.option("--search", metavar="TEXT", help="Text in name, base, languages, datasets, licence.")
@click.option("--target", metavar="MODEL", help="Check each adapter's fit, from headers alone.")
@click.option("--sort", default="name", show_default=True, type=click.Choice(SORTS))
@registry_option
@json_option
def command(
    language: str | None,
    source_base: str | None,
    dataset: str | None,
    search: str | None,
    target: str | None,
    sort: str,
    registry: str | None,
    as_json: bool,
) -> None:
    """List the adapters of a registry that match every filter given."""
    from ftt_hub.cli.output import message, print_json, print_table

    from ftt_hub.api import browse

    entries = browse(
            language=language,
            source_base=source_base,
            dataset=dataset,
            search=search,
            target=target,
            registry=registry,
        )  # fmt: skip
    found = list(entries)
    found.sort(key=_sort_key(sort), reverse=sort != "name")
    if as_json:
        print_json([entry_json(entry) for entry in found])
        return
    if not found:
        message("no adapter matches; drop a filter, or publish the first one: ftt-hub push --help")
        return
    columns = ["name", "version", "languages", "source base", "training data", "codec", "size",
               "fidelity", "licence", "updated"]  # fmt: skip
    if target is not None:
        columns.append("fit")
    print_table(None, columns, [entry_row(entry) for entry in found])


def stored_bytes(entry: BrowseEntry) -> int:
    """Bytes of an adapter's files."""
    return sum(int(facts["size"]) for facts in entry.listing.config.files.values())


def _sort_key(sort: str) -> Callable[[BrowseEntry], str | int]:
    keys: dict[str, Callable[[BrowseEntry], str | int]] = {
        "name": lambda entry: entry.listing.name,
        "updated": lambda entry: entry.listing.updated or "",
        "size": stored_bytes,
    }
    return keys[sort]


def entry_json(entry: BrowseEntry) -> dict[str, object]:
    """One adapter, JSON-ready."""
    listing, config = entry.listing, entry.listing.config
    value: dict[str, object] = {
        "name": listing.name,
        "revision": listing.revision,
        "versions": list(listing.versions),
        "languages": config.languages,
        "source_base": config.source_base.id,
        "fine_tuned": config.fine_tuned.id,
        "datasets": config.datasets,
        "codec": config.codec.id,
        "bytes": stored_bytes(entry),
        "exact": config.fidelity.exact,
        "relative_error": config.fidelity.relative_error,
        "license": config.license,
        "updated": listing.updated,
    }
    if entry.compatibility is not None:
        value["compatibility"] = entry.compatibility.to_json()
    return value


def entry_row(entry: BrowseEntry) -> list[str]:
    """One adapter, as cells."""
    from ftt_hub.cli.output import size

    listing, config = entry.listing, entry.listing.config
    exact = config.fidelity.exact
    row = [
        listing.name,
        listing.revision,
        ", ".join(config.languages),
        config.source_base.id,
        ", ".join(config.datasets),
        config.codec.id,
        size(stored_bytes(entry)),
        "exact" if exact else f"error {config.fidelity.relative_error:.2g}",
        config.license or "",
        (listing.updated or "")[:10],
    ]
    if entry.compatibility is not None:
        row.append(entry.compatibility.verdict)
    return row
