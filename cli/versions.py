"""`ftt-hub versions`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option


@click.command("versions", epilog="Example: ftt-hub versions me/base-v1-turkish")
@click.argument("name")
@registry_option
@json_option
def command(name: str, registry: str | None, as_json: bool) -> None:
    """List the published versions of NAME (namespace/name), newest first."""
    from ftt_hub.cli.output import message, print_json, print_table

    from ftt_hub.registry.versions import versions

    published = versions(name, registry=registry)
    if as_json:
        print_json([version.to_json() for version in published])
        return
    if not published:
        message("no version yet; publish one: ftt-hub push FOLDER NAME --version 1.0.0")
        return
    rows = [
        (
            version.tag,
            version.revision[:12],
            (version.published or "")[:10],
            "" if version.deprecated is None else version.deprecated.notice(version.tag),
        )
        for version in published
    ]
    print_table(None, ("version", "revision", "published", "deprecated"), rows)
