"""`ftt-hub info`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option

from ftt_hub.artifact.manifest import AdapterConfig


@click.command("info", epilog="Example: ftt-hub info me/base-v1-turkish@v1.0.0 --layers")
@click.argument("adapter")
@click.option("--revision", help="Branch, tag or commit.")
@click.option("--layers", is_flag=True, help="Also ‖Δ‖/‖m‖ by layer.")
@click.option(
    "--channels",
    type=click.Path(),
    metavar="FILE",
    help="Write update signals per channel (QuantLRM) to this file.",
)
@click.option(
    "--source-base", metavar="MODEL", help="--channels of an anchored adapter: its source base."
)
@registry_option
@json_option
def command(
    adapter: str,
    revision: str | None,
    layers: bool,
    channels: str | None,
    source_base: str | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show ADAPTER's manifest, fidelity and, on request, its norms by layer."""
    from ftt_hub.cli.output import print_facts, print_json, print_table

    from ftt_hub.catalogue.info import info

    described = info(adapter, revision=revision, registry=registry)
    if channels is not None:
        _export(adapter, channels, source_base, revision, registry)
    if as_json:
        print_json(described.to_json())
        return
    facts = facts_of(described.config)
    for scale in described.scales:
        facts[f"scale on {scale.target}"] = f"{scale.scale:g}, chosen on {scale.text}"
    print_facts(facts)
    if layers:
        rows = [(name, f"{ratio:.5f}") for name, ratio in described.layers.items()]
        print_table("‖Δ‖/‖m‖ by layer", ("layer", "ratio"), rows)


def _export(
    adapter: str, out: str, source_base: str | None, revision: str | None, registry: str | None
) -> None:
    from ftt_hub.cli.output import message
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.api.convert import export_channels

    with progress_bar() as bar:
        report = export_channels(
            adapter,
            out,
            source_base=source_base,
            revision=revision,
            registry=registry,
            progress=bar,
        )
    message(f"{out}: channels of {report.matrices} matrices")
    if not report.exact:
        message("the adapter is lossy: its zeros are not all weights that did not change")


def facts_of(config: AdapterConfig) -> dict[str, str]:
    """The manifest for people."""
    from ftt_hub.cli.output import size

    fidelity, summary = config.fidelity, config.tensors
    stored = sum(facts["size"] for facts in config.files.values())
    return {
        "source base": f"{config.source_base.id} {config.source_base.revision or ''}".strip(),
        "fine-tuned model": config.fine_tuned.id,
        "languages": ", ".join(config.languages) or "not stated",
        "training data": ", ".join(config.datasets) or "not stated",
        "method": config.method,
        **_combined(config),
        **({"started from": _started(config)} if config.parents else {}),
        "licence": config.license or "not stated",
        "codec": config.codec.id,
        "fidelity": "exact: rebuilds the fine-tuned model bit for bit"
        if fidelity.exact
        else f"relative error {fidelity.relative_error:g}, noise {fidelity.noise:g}",
        "size": f"{size(stored)} ({fidelity.ratio:.1%} of the model, "
        f"{fidelity.bits_per_weight:.3g} bits per weight)",
        "‖Δ‖/‖m‖": f"{fidelity.relative_norm:g}",
        "weights changed": f"{fidelity.changed_parameters:,} of {fidelity.parameters:,}",
        "tensors": f"{summary.changed} changed, {summary.unchanged} unchanged, "
        f"{len(summary.added)} added, {len(summary.dropped)} dropped, "
        f"{len(summary.resized)} resized",
        "content digest": config.content_digest,
    }


def _combined(config: AdapterConfig) -> dict[str, str]:
    parents = config.combination.get("parents", [])
    names = " + ".join(f"{parent['weight']:g} × {parent['ref']}" for parent in parents)
    return {"combined": f"{config.combination['method']}: {names}"} if parents else {}


def _started(config: AdapterConfig) -> str:
    return " + ".join(["source base", *(parent["ref"] for parent in config.parents)])
