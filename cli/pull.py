"""`ftt-hub pull`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option


@click.command("pull", epilog="Example: ftt-hub pull me/base-v1-turkish@v1.0.0 ./turkish")
@click.argument("adapter")
@click.argument("out", required=False, type=click.Path())
@registry_option
@json_option
def command(adapter: str, out: str | None, registry: str | None, as_json: bool) -> None:
    """Fetch ADAPTER and check it; with OUT copy it there, else print where it lies."""
    from ftt_hub.cli.output import print_json, print_line
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.registry.pull import pull

    with progress_bar() as bar:
        result = pull(adapter, out, registry=registry, progress=bar)
    if as_json:
        print_json({"folder": str(result.folder), "revision": result.revision})
    else:
        print_line(str(result.folder))
