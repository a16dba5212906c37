"""`ftt-hub combine`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import ByteSize, json_option, registry_option, workers_option


@click.command(
    "combine",
    epilog="Example: ftt-hub combine turkish-instruct.yaml ./turkish-instruct --target org/base-v2",
)
@click.argument("recipe", type=click.Path())
@click.argument("out", type=click.Path())
@click.option(
    "--target", metavar="MODEL", help="Write the merged checkpoint MODEL + Δ instead of an adapter."
)
@click.option("--source-base", metavar="MODEL", help="m_s, to decode anchored adapters.")
@click.option(
    "--max-shard-size",
    default="5GB",
    show_default=True,
    type=ByteSize(),
    help="Largest size of a weight file, with --target.",
)
@click.option("--force", is_flag=True, help="Continue although the result does not fit the target.")
@registry_option
@workers_option
@json_option
def command(
    recipe: str,
    out: str,
    target: str | None,
    source_base: str | None,
    max_shard_size: int,
    force: bool,
    registry: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Combine the adapters that RECIPE (a YAML file) names into the adapter OUT.

    Methods: linear, average, greedy_soup, ties, dare, dare_ties, breadcrumbs and slerp; layer
    ranges per adapter. docs/combining.md has the recipes. Memory stays flat; OUT appears whole or
    not at all.
    """
    from ftt_hub.cli.output import message, print_json, print_line, size
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.combining.combine import combine

    with progress_bar() as bar:
        result = combine(
            recipe,
            out,
            target=target,
            source_base=source_base,
            max_shard_size=max_shard_size,
            force=force,
            registry=registry,
            workers=workers,
            progress=bar,
        )
    for note in result.notes:
        message(f"note: {note}")
    if as_json:
        print_json(result.to_json())
        return
    for parent in result.parents:
        print_line(f"{parent['weight']:g} × {parent['ref']} ({parent['content_digest'][7:19]})")
    if result.merged is not None:
        print_line(f"{result.folder}: merged checkpoint, {size(result.merged.nbytes)}")
        return
    print_line(f"{result.folder}: adapter, licence {result.license or 'not stated'}")
