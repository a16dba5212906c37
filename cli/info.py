"""`ftt-hub info`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import click
from ftt_hub.cli.options import json_option, registry_option

from ftt_hub.config import AdapterConfig
from ftt_hub.container.index import TensorEntry

_LAYER = re.compile(r"\.(?:layers|h|blocks?|layer)\.(\d+)\.")


@click.command("info", epilog="Example: ftt-hub info me/base-v1-turkish@v1.0.0 --layers")
@click.argument("adapter")
@click.option("--revision", help="Branch, tag or commit.")
@click.option("--layers", is_flag=True, help="Also ‖Δ‖/‖m‖ a layer.")
@registry_option
@json_option
def command(
    adapter: str, revision: str | None, layers: bool, registry: str | None, as_json: bool
) -> None:
    """Show ADAPTER's manifest, fidelity and, on request, its norms a layer."""
    from ftt_hub.cli.output import print_facts, print_json, print_table

    from ftt_hub.adapter import open_adapter

    with open_adapter(adapter, revision=revision, registry=registry) as opened:
        norms = layer_norms(opened.container.entries.values())
        config = opened.config
    if as_json:
        print_json({"config": config.to_json(), "layers": norms})
        return
    print_facts(facts_of(config))
    if layers:
        print_table(
            "‖Δ‖/‖m‖ a layer", ("layer", "ratio"), [(n, f"{v:.5f}") for n, v in norms.items()]
        )


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
        **({"started from": _started(config)} if config.parents else {}),
        "licence": config.license or "not stated",
        "codec": config.codec.id,
        "fidelity": "exact: rebuilds the fine-tuned model bit for bit"
        if fidelity.exact
        else f"relative error {fidelity.relative_error:g}, noise {fidelity.noise:g}",
        "size": f"{size(stored)} ({fidelity.ratio:.1%} of the model, "
        f"{fidelity.bits_per_weight:.3g} bits a weight)",
        "‖Δ‖/‖m‖": f"{fidelity.relative_norm:g}",
        "weights changed": f"{fidelity.changed_parameters:,} of {fidelity.parameters:,}",
        "tensors": f"{summary.changed} changed, {summary.unchanged} unchanged, "
        f"{len(summary.added)} added, {len(summary.dropped)} dropped, "
        f"{len(summary.resized)} resized",
        "content digest": config.content_digest,
    }


def _started(config: AdapterConfig) -> str:
    return " + ".join(["source base", *(parent["ref"] for parent in config.parents)])


def layer_norms(entries: Iterable[TensorEntry]) -> dict[str, float]:
    """‖Δ‖/‖m‖ by layer number, tensors outside the layers by name."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for entry in entries:
        if entry.norm is None:
            continue
        match = _LAYER.search(entry.name)
        key = f"layer {int(match[1]):3}" if match else entry.name
        sums[key][0] += entry.norm[0] ** 2
        sums[key][1] += entry.norm[1] ** 2
    return {k: (d / s) ** 0.5 for k, (d, s) in sorted(sums.items()) if s > 0}
