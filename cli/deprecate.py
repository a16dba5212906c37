"""`ftt-hub deprecate`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option


@click.command(
    "deprecate",
    epilog='Example: ftt-hub deprecate me/base-v1-turkish@v1.0.0 --reason "trained on a bad split"',
)
@click.argument("ref")
@click.option("--reason", required=True, metavar="TEXT", help="Why, in one line.")
@click.option(
    "--successor",
    metavar="X.Y.Z",
    help="What to use instead; default the newest that is not deprecated.",
)
@registry_option
@json_option
def command(
    ref: str, reason: str, successor: str | None, registry: str | None, as_json: bool
) -> None:
    """Mark the version REF (namespace/name@vX.Y.Z) as one that should no longer be used.

    It still loads, with a warning; browse shows it only with --deprecated.
    """
    from ftt_hub.cli.output import message, print_json

    from ftt_hub.registry.deprecate import deprecate

    changed = deprecate(ref, reason, successor=successor, registry=registry)
    if as_json:
        print_json({"ref": ref, "changed": changed})
        return
    click.echo(f"{ref}: deprecated")
    if not changed:
        message("nothing to do: it was deprecated with this reason already")
