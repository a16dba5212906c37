"""`ftt-hub push`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option


@click.command("push", epilog="Example: ftt-hub push ./turkish me/base-v1-turkish --version 1.0.0")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
@click.option("--version", "version", metavar="X.Y.Z", help="Version; published ones never change.")
@click.option("--private", is_flag=True, help="Make the repository private.")
@registry_option
@json_option
def command(
    folder: str, name: str, version: str | None, private: bool, registry: str | None, as_json: bool
) -> None:
    """Publish the adapter FOLDER as NAME (namespace/name), after checking it completely."""
    from ftt_hub.cli.output import message, print_json, print_line, progress_bar

    from ftt_hub.api import publish

    with progress_bar() as bar:
        result = publish(
            folder, name, version=version, private=private, registry=registry, progress=bar
        )
    if as_json:
        facts = {"ref": result.ref, "changed": result.changed, "location": result.location}
        print_json(facts)
        return
    print_line(f"{result.ref}  {result.location}")
    if not result.changed:
        message("nothing to do: this content is published already")
