"""`ftt-hub browse`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, registry_option

if TYPE_CHECKING:
    from ftt_hub.catalogue.browse import BrowseEntry

SORTS = ("name", "updated", "downloads", "likes", "size")


@click.command("browse", epilog="Example: ftt-hub browse --language tr --target org/base-v2")
@click.option("--language", metavar="TAG", help="BCP-47 tag; tr also finds tr-TR.")
@click.option("--source-base", metavar="ID", help="Source base the adapters were made from.")
@click.option("--dataset", metavar="ID", help="Training dataset.")
@click.option("--license", "licence", metavar="ID", help="Licence of the adapter.")
@click.option("--search", metavar="TEXT", help="Text in name, base, languages, datasets, licence.")
@click.option(
    "--target", metavar="MODEL", help="Check the fit of each adapter, from headers alone."
)
@click.option("--sort", default="name", show_default=True, type=click.Choice(SORTS))
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Adapters per page."
)
@click.option("--page", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--deprecated", is_flag=True, help="Also show deprecated adapters.")
@click.option("--web", is_flag=True, help="Serve a page to filter, check and read instead.")
@click.option("--host", metavar="ADDRESS", help="With --web: where to listen. [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="With --web: port; 0 takes any free one. [default: 7860]",
)
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
        search_for: dict[str, object] = {
            "language": language,
            "source_base": source_base,
            "dataset": dataset,
            "license": licence,
            "search": search,
            "target": target,
            "sort": sort,
            "deprecated": deprecated,
            "page": page,
        }
        serve_page(search_for, host, port, registry, open_page)
        return
    if host is not None or port is not None or open_page:
        raise click.UsageError("--host, --port and --open need --web")
    from ftt_hub.cli.output import message, print_json, print_table

    from ftt_hub.catalogue.browse import Query, browse_page

    query = Query(language, source_base, dataset, licence, search, deprecated)
    listed = browse_page(query, target=target, registry=registry, sort=sort, limit=limit, page=page)
    if as_json:
        print_json([entry.to_json() for entry in listed.entries])
    elif listed.entries:
        print_table(None, columns(listed.entries), [entry_row(entry) for entry in listed.entries])
    filtered = any(item is not None for item in (language, source_base, dataset, licence, search))
    note = where_in_list(listed.total, page, limit, filtered)
    if note:
        message(note)


def where_in_list(total: int, page: int, limit: int, filtered: bool) -> str:
    """Which page of the list is shown, or what to do when there is nothing to show."""
    pages = max(1, -(-total // limit))
    if not total:
        return empty_state(filtered)
    if page > pages:
        return f"there is no page {page}: {total} adapters make {pages} pages"
    if pages == 1:
        return ""
    following = f"; more: --page {page + 1}" if page < pages else ""
    return f"page {page} of {pages}, {total} adapters{following}"


def serve_page(
    search_for: dict[str, object],
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
        chosen = address + Selection.of(search_for).address().removesuffix("?")
        print_line(chosen)
        message("Ctrl-C ends it")
        if open_page:
            click.launch(chosen)

    serve(host=host or HOST, port=PORT if port is None else port, registry=registry, ready=ready)


def empty_state(filtered: bool) -> str:
    """What to do when the list is empty."""
    if filtered:
        return "no adapter matches; drop a filter, or look at all: ftt-hub browse"
    return "no adapter here yet; publish the first one: ftt-hub push FOLDER NAMESPACE/NAME"


def columns(entries: tuple[BrowseEntry, ...]) -> list[str]:
    """Column titles; downloads and likes only where a registry counts them."""
    names = [
        "name",
        "version",
        "languages",
        "source base",
        "training data",
        "codec",
        "size",
        "fidelity",
        "licence",
        "updated",
    ]
    if any(_is_counted(entry) for entry in entries):
        names += ["downloads", "likes"]
    if any(entry.compatibility is not None for entry in entries):
        names += ["fit", "verified"]
    return names


def _is_counted(entry: BrowseEntry) -> bool:
    return entry.listing.downloads is not None or entry.listing.likes is not None


def entry_row(entry: BrowseEntry) -> list[str]:
    """One adapter, as cells."""
    from ftt_hub.cli.output import size

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
        size(stored_bytes(listing)),
        "exact" if exact else f"error {config.fidelity.relative_error:.2g}",
        config.license or "",
        (listing.updated or "")[:10],
    ]
    if _is_counted(entry):
        row += [_count(listing.downloads), _count(listing.likes)]
    if entry.compatibility is not None:
        record = entry.verified
        verified = "" if record is None else f"{record['status']} at depth {record['depth']}"
        row += [entry.compatibility.verdict, verified]
    return row


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
