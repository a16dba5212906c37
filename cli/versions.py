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

    found = versions(name, registry=registry)
    if as_json:
        print_json(
            [
                {
                    "version": v.tag,
                    "revision": v.revision,
                    "published": v.published,
                    "deprecated": None
                    if v.deprecated is None
                    else {"reason": v.deprecated.reason, "successor": v.deprecated.successor},
                }
                for v in found
            ]
        )
        return
    if not found:
        message("no version yet; publish one: ftt-hub push FOLDER NAME --version 1.0.0")
        return
    rows = [
        (
            v.tag,
            v.revision[:12],
            (v.published or "")[:10],
            "" if v.deprecated is None else v.deprecated.notice(v.tag),
        )
        for v in found
    ]
    print_table(None, ("version", "revision", "published", "deprecated"), rows)
