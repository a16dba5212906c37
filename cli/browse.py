"""`ftt-hub browse`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, registry_option

from ftt_hub.support.sizes import format_bytes

if TYPE_CHECKING:
    from ftt_hub.catalogue.browse import BrowseEntry

SORTS = ("name", "updated", "downloads", "likes", "size")


@click.command("browse", epilog="Example: ftt-hub browse --language tr --target org/base-v2")
@click.option("--language", metavar="TAG", help="BCP-47 tag; tr also finds tr-TR.")
@click.option("--source-base", metavar="ID", help="Source base the adapters were made from.")
@click.option("--dataset", metavar="ID", help="Training dataset.")
@click.option("--license", "licence", metavar="ID", help="Licence of the adapter.")
@click.option("--search", metavar="TEXT", help="Text in name, base, languages, datasets, licence.")
@click.option("--target", metavar="MODEL", help="Check each adapter's fit, from headers alone.")
@click.option("--sort", default="name", show_default=True, type=click.Choice(SORTS))
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1),
              help="Adapters a page.")  # fmt: skip
@click.option("--page", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--deprecated", is_flag=True, help="Show deprecated adapters, too.")
@click.option("--web", is_flag=True, help="Serve a page to filter, check and read instead.")
@click.option("--host", metavar="ADDRESS", help="With --web: where to listen. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535),
              help="With --web: port; 0 takes any free one. [default: 7860]")  # fmt: skip
@click.option("--open", "open_page", is_flag=True, help="With --web: open it in the browser.")
@registry_option
@json_option
def command(
    language: str | None,
    source_base: str | None,
    dataset: str | None,
    licence: str | None,
    search: str | None,
    target: str | None,
    sort: str,
    limit: int,
    page: int,
    deprecated: bool,
    web: bool,
    host: str | None,
    port: int | None,
    open_page: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """List the adapters of a registry that match every filter given."""
    if web:
        if as_json:
            raise click.UsageError("--web shows a page: leave out --json")
        wanted: dict[str, object] = {
            "language": language, "source_base": source_base, "dataset": dataset,
            "license": licence, "search": search, "target": target, "sort": sort,
            "deprecated": deprecated, "page": page,
        }  # fmt: skip
        serve_page(wanted, host, port, registry, open_page)
        return
    if host is not None or port is not None or open_page:
        raise click.UsageError("--host, --port and --open need --web")
    from ftt_hub.cli.output import message, print_json, print_table

    from ftt_hub.catalogue.browse import Query, browse_page

    query = Query(language, source_base, dataset, licence, search, deprecated)
    found = browse_page(query, target=target, registry=registry, sort=sort, limit=limit, page=page)
    pages = max(1, -(-found.total // limit))
    if as_json:
        print_json([entry_json(entry) for entry in found.entries])
    elif found.entries:
        print_table(None, columns(found.entries), [entry_row(entry) for entry in found.entries])
    if not found.total:
        filters = (language, source_base, dataset, licence, search)
        message(empty_state(any(item is not None for item in filters)))
    elif page > pages:
        message(f"there is no page {page}: {found.total} adapters make {pages} pages")
    elif pages > 1:
        following = f"; more: --page {page + 1}" if page < pages else ""
        message(f"page {page} of {pages}, {found.total} adapters{following}")


def serve_page(
    wanted: dict[str, object],
    host: str | None,
    port: int | None,
    registry: str | None,
    open_page: bool,
) -> None:
    """Serve the page until Ctrl-C; its address goes to stdout as soon as it can be opened."""
    from ftt_hub.cli.output import message, print_line

    from ftt_hub.web.selection import Selection
    from ftt_hub.web.server import HOST, PORT, serve

    def ready(address: str) -> None:
        chosen = address + Selection.of(wanted).address().removesuffix("?")
        print_line(chosen)
        message("Ctrl-C ends it")
        if open_page:
            click.launch(chosen)

    serve(host=host or HOST, port=PORT if port is None else port, registry=registry, ready=ready)


def empty_state(filtered: bool) -> str:
    """What to do when nothing was found."""
    if filtered:
        return "no adapter matches; drop a filter, or look at all: ftt-hub browse"
    return "no adapter here yet; publish the first one: ftt-hub push FOLDER NAMESPACE/NAME"


def columns(entries: tuple[BrowseEntry, ...]) -> list[str]:
    """Column titles; downloads and likes only where a registry counts them."""
    names = ["name", "version", "languages", "source base", "training data", "codec", "size",
             "fidelity", "licence", "updated"]  # fmt: skip
    if any(_is_counted(entry) for entry in entries):
        names += ["downloads", "likes"]
    if any(entry.compatibility is not None for entry in entries):
        names += ["fit", "verified"]
    return names


def _is_counted(entry: BrowseEntry) -> bool:
    return entry.listing.downloads is not None or entry.listing.likes is not None


def entry_json(entry: BrowseEntry) -> dict[str, object]:
    """One adapter, JSON-ready."""
    from ftt_hub.catalogue.browse import stored_bytes

    listing, config = entry.listing, entry.listing.config
    marked = listing.deprecated
    value: dict[str, object] = {
        "name": listing.name,
        "revision": listing.revision,
        "versions": list(listing.versions),
        "languages": config.languages,
        "source_base": config.source_base.id,
        "fine_tuned": config.fine_tuned.id,
        "datasets": config.datasets,
        "codec": config.codec.id,
        "bytes": stored_bytes(listing),
        "exact": config.fidelity.exact,
        "relative_error": config.fidelity.relative_error,
        "license": config.license,
        "updated": listing.updated,
        "downloads": listing.downloads,
        "likes": listing.likes,
        "evaluations": [result.to_json() for result in listing.evaluations],
        "deprecated": None
        if marked is None
        else {"reason": marked.reason, "successor": marked.successor},
    }
    if entry.compatibility is not None:
        value["compatibility"] = entry.compatibility.to_json()
        value["verified"] = entry.verified
    return value


def entry_row(entry: BrowseEntry) -> list[str]:
    """One adapter, as cells."""
    from ftt_hub.catalogue.browse import stored_bytes

    listing, config = entry.listing, entry.listing.config
    exact = config.fidelity.exact
    row = [
        listing.name,
        listing.revision + (" (deprecated)" if listing.deprecated is not None else ""),
        ", ".join(config.languages),
        config.source_base.id,
        ", ".join(config.datasets),
        config.codec.id,
        format_bytes(stored_bytes(listing)),
        "exact" if exact else f"error {config.fidelity.relative_error:.2g}",
        config.license or "",
        (listing.updated or "")[:10],
    ]
    if _is_counted(entry):
        row += [_count(listing.downloads), _count(listing.likes)]
    if entry.compatibility is not None:
        held = entry.verified
        told = "" if held is None else f"{held['status']} at depth {held['depth']}"
        row += [entry.compatibility.verdict, told]
    return row


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
