"""`ftt-hub rank`."""

from __future__ import annotations

from pathlib import Path

import click
from ftt_hub.cli.options import json_option, registry_option


@click.command("rank", epilog="Example: ftt-hub rank --target org/base-v2 --language tr")
@click.option("--target", required=True, metavar="MODEL", help="Folder or Hub reference of m_t.")
@click.option("--language", metavar="TAG", help="BCP-47 tag; tr also finds tr-TR.")
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    help="Held-out text: losses decide between the most promising.",
)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Adapters to list."
)
@registry_option
@json_option
def command(
    target: str,
    language: str | None,
    text: Path | None,
    limit: int,
    registry: str | None,
    as_json: bool,
) -> None:
    """Order the registry's adapters for a target, the most promising first, with reasons.

    Headers are read of all, sketches of the 16 likeliest, and with --text the models of the 4 most
    promising are run.
    """
    from ftt_hub.cli.output import message, print_json, print_table, quiet_loading

    from ftt_hub.catalogue.rank import rank

    if text is not None:
        quiet_loading()
    ranked = rank(target, language=language, text=text, registry=registry, limit=limit)
    if as_json:
        print_json([entry.to_json() for entry in ranked])
    elif ranked:
        rows = [
            (str(n), entry.name, entry.report.depth, entry.report.status.value, entry.reason)
            for n, entry in enumerate(ranked, 1)
        ]
        print_table(None, ("", "adapter", "depth", "outcome", "reason"), rows)
    if not ranked:
        message("no adapter matches; look at all: ftt-hub browse")
