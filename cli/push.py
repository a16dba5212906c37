"""`ftt-hub push`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, registry_option

if TYPE_CHECKING:
    from ftt_hub.registry.abc import Preview


@click.command("push", epilog="Example: ftt-hub push ./turkish me/base-v1-turkish --version 1.0.0")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
@click.option("--version", "version", metavar="X.Y.Z", help="Version; published ones never change.")
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option("--create-pr", is_flag=True, help="Open a pull request; it has no version yet.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, with sizes, and stop.")
@registry_option
@json_option
def command(
    folder: str,
    name: str,
    version: str | None,
    private: bool,
    create_pr: bool,
    dry_run: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Publish the adapter FOLDER as NAME (namespace/name), after checking it completely."""
    from ftt_hub.cli.output import message, print_json, print_line
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.registry.push import preview, push

    if dry_run:
        show_preview(preview(folder, name, version=version, registry=registry), as_json)
        return
    with progress_bar() as bar:
        result = push(
            folder,
            name,
            version=version,
            private=private,
            create_pr=create_pr,
            registry=registry,
            progress=bar,
        )
    if as_json:
        facts = {"ref": result.ref, "changed": result.changed, "location": result.location}
        print_json(facts)
        return
    print_line(f"{result.ref}  {result.location}")
    if not result.changed:
        message("nothing to do: this content is published already")


def show_preview(plan: Preview, as_json: bool) -> None:
    """The files that a push would send."""
    from ftt_hub.cli.output import message, print_json, print_table, size

    if as_json:
        files = [{"name": f.name, "bytes": f.size, "stored": f.stored} for f in plan.files]
        facts = {"ref": plan.ref, "changed": plan.changed, "bytes_sent": plan.sent}
        print_json({**facts, "files": files})
        return
    rows = [(f.name, size(f.size), "there already" if f.stored else "send") for f in plan.files]
    print_table(None, ("file", "size", plan.ref), rows)
    if plan.changed:
        message(f"would send {size(plan.sent)}; nothing was sent")
    else:
        message("nothing to do: this content is published already")
