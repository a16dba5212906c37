"""`ftt-hub recycle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from ftt_hub.cli.options import json_option

if TYPE_CHECKING:
    from ftt_hub.recycling.plan import Plan


@click.command("recycle", epilog="Example: ftt-hub recycle arithmetic.yaml --dry-run")
@click.argument("recipe", type=click.Path())
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the steps, their verdicts, memory and disk; train nothing.",
)
@json_option
def command(recipe: str, dry_run: bool, as_json: bool) -> None:
    """Recycle, fine-tune, extract and evaluate for each base version that RECIPE names.

    For i = 1…n: start from M_i + Δ of the version before, fine-tune on the recipe's rows, and save
    the new Δ as an adapter (Lin et al. 2025, Algorithm 1). docs/recycling.md has the recipes. Run
    it again after a kill: finished steps stay as they are. On several GPUs: accelerate launch -m
    ftt_hub.cli recycle RECIPE. Needs pip install 'ftt-hub[train]'.
    """
    from ftt_hub.cli.output import message, print_json, print_line, print_table
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.recycling.ranks import leads
    from ftt_hub.recycling.recycle import preview_recycling, recycle

    if dry_run:
        plan = preview_recycling(recipe)
        if as_json:
            print_json(plan.to_json())
        else:
            _print_plan(plan)
        return
    _quieten()
    with progress_bar() as bar:
        result = recycle(recipe, progress=bar, note=message)
    if not leads():
        return
    if as_json:
        print_json(result.to_json())
        return
    rows = [
        (
            variant,
            row["step"],
            *(_loss(row["losses"], key) for key in ("base", "start", "tuned")),
            _named(variant, row),
        )
        for variant, versions in result.variants.items()
        for row in versions
    ]
    head = ("variant", "step", "M", "M + Δ", "fine-tuned", "adapter")
    print_table("held-out loss, nats per token", head, rows)
    print_line(f"{result.out}: {sum(map(len, result.variants.values()))} adapters")


def _print_plan(plan: Plan) -> None:
    from ftt_hub.cli.output import print_line, print_table, size

    for report in plan.reports:
        print_line(f"{report.adapter} → {report.target}: {report.verdict}")
    rows = [
        (
            step.name,
            step.base,
            step.parent or "",
            ", ".join(step.variants) or "for another",
            step.status,
            f"{step.parameters / 1e6:,.1f} M",
            size(step.memory),
            size(step.disk),
        )
        for step in plan.steps
    ]
    head = ("step", "base", "+ Δ of", "gives", "", "parameters", "memory", "work on disk")
    print_table(None, head, rows)
    print_line(f"disk: up to {size(plan.disk)} needed, {size(plan.free)} free")
    print_line("memory: of one device that holds the whole training; FSDP and ZeRO share it out")


def _named(variant: str, row: dict[str, Any]) -> str:
    """The reference under which a variant's adapter was published, or its folder."""
    refs: list[str] = row["published"] or [row["adapter"]]
    return next((ref for ref in refs if f"-{variant}@" in ref), refs[-1])


def _loss(losses: dict[str, Any], key: str) -> str:
    loss = losses.get(key) or (losses.get("start") if key == "base" else None)
    return f"{loss['value']:.4f}" if loss else ""


def _quieten() -> None:
    """Progress and messages are ours; of the libraries' own only errors are shown."""
    import logging
    import warnings

    from ftt_hub.recycling.extra import require_train_extra

    require_train_extra()
    import datasets
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    for name in ("transformers", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(trl|transformers|accelerate|torch)(\.|$)")
