"""`ftt-hub verify`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option, workers_option

from ftt_hub.report import CompatibilityReport


@click.command(
    "verify",
    epilog="Example: ftt-hub verify me/base-v1-turkish@v1.0.0 --target org/base-v2 --depth sketch",
)
@click.argument("adapter")
@click.option("--target", metavar="MODEL", help="Folder or Hub reference to check the fit with.")
@click.option("--depth", default="headers", show_default=True,
              type=click.Choice(["headers", "sketch"]),
              help="headers: no weights are read; sketch: some kilobytes of them.")  # fmt: skip
@click.option("--revision", help="Branch, tag or commit of the adapter.")
@registry_option
@workers_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    adapter: str,
    target: str | None,
    depth: str,
    revision: str | None,
    registry: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check ADAPTER: without --target its integrity, with one whether it fits.

    Exit code 3: it does not fit. Exit code 4: it is damaged.
    """
    from ftt_hub.cli.output import print_json, print_line, progress_bar

    from ftt_hub.api import verify

    with progress_bar() as bar:
        result = verify(
            adapter, target, depth=depth, revision=revision, registry=registry,
            workers=workers, progress=bar,
        )  # fmt: skip
    if not isinstance(result, CompatibilityReport):
        if as_json:
            print_json({"status": "intact", "content_digest": result.content_digest})
        else:
            print_line(f"{adapter}: intact ({result.content_digest})")
        return
    if as_json:
        print_json(result.to_json())
    else:
        print_report(result)
    if result.status == "rejected":
        ctx.exit(3)


def print_report(report: CompatibilityReport) -> None:
    """The verdict, then every finding, then the cost."""
    from ftt_hub.cli.output import print_facts, print_line, print_table, size

    print_line(f"{report.target}: {report.verdict}")
    rows = [(f.check, f.status.value, f.reason) for f in report.findings]
    print_table(None, ("check", "outcome", "reason"), rows)
    labels = {
        "adapter_download": "adapter to download",
        "target_download": "target to download",
        "merged_disk": "merged model on disk",
        "load_memory": "memory to load it",
        "apply_memory": "memory to apply on disk, about",
    }
    print_facts({labels[key]: size(value) for key, value in report.estimate.items()})
