"""`ftt-hub extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import ByteSize, json_option, provenance_options, workers_option

if TYPE_CHECKING:
    from ftt_hub.artifact.manifest import AdapterConfig
    from ftt_hub.extraction.trials.trial import LossTrial

CODECS = ("exact", "anchored", "quantized", "factored", "auto")
METHODS = ("SFT", "DPO", "RLVR", "GRPO", "other")


@click.command(
    "extract",
    epilog="Example: ftt-hub extract org/base-v1 ./base-v1-turkish ./turkish --language tr "
    "--dataset me/turkish-chat --method SFT --license apache-2.0",
)
@click.argument("source_base")
@click.argument("fine_tuned")
@click.argument("out", type=click.Path())
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    show_default="exact, or quantized with a limit",
    help="How Δ is stored; factored is for LoRA folders.",
)
@click.option("--bits", type=float, metavar="B", help="quantized: bits per weight, such as 0.2.")
@click.option(
    "--target-size",
    type=ByteSize(),
    metavar="SIZE",
    help="quantized: size of the container, such as 20MB.",
)
@click.option(
    "--max-error",
    type=float,
    metavar="R",
    help="quantized: largest relative error of Δ, rounded to nearest.",
)
@click.option(
    "--noise",
    type=float,
    metavar="N",
    help="quantized: error relative to the weights (default 0.01).",
)
@click.option(
    "--max-loss-increase",
    type=float,
    metavar="L",
    help="quantized: fewest bits that add at most L to the loss.",
)
@click.option(
    "--text",
    type=click.Path(),
    metavar="FILE",
    help="Held-out text, plain or JSONL: choose by the loss on it.",
)
@click.option(
    "--target", metavar="MODEL", help="--text: model that Δ is added to (default SOURCE_BASE)."
)
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "stochastic", "rotated"]),
    help="quantized: chosen by rule unless given.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed for stochastic rounding and rotation."
)
@provenance_options
@click.option(
    "--method",
    default="SFT",
    show_default=True,
    type=click.Choice(METHODS),
    help="How the model was fine-tuned.",
)
@click.option("--source-id", metavar="ID", help="Model that the folder SOURCE_BASE is a copy of.")
@click.option(
    "--fine-tuned-id", metavar="ID", help="Model that the folder FINE_TUNED is a copy of."
)
@click.option(
    "--no-sketch",
    is_flag=True,
    help="Store no sample of the source base (if its licence forbids it).",
)
@click.option("--resume", is_flag=True, help="Continue the work of a run that was killed.")
@click.option("--force", is_flag=True, help="Continue although a PEFT adapter names another base.")
@workers_option
@json_option
def command(
    source_base: str,
    fine_tuned: str,
    out: str,
    codec: str | None,
    bits: float | None,
    target_size: int | None,
    max_error: float | None,
    noise: float | None,
    max_loss_increase: float | None,
    text: str | None,
    target: str | None,
    rounding: str | None,
    seed: int,
    languages: tuple[str, ...],
    datasets: tuple[str, ...],
    method: str,
    licence: str | None,
    source_id: str | None,
    fine_tuned_id: str | None,
    no_sketch: bool,
    resume: bool,
    force: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Make the transfer adapter OUT from SOURCE_BASE and FINE_TUNED.

    Both are folders or Hub references; FINE_TUNED may be the folder of a PEFT
    adapter. Memory stays flat; OUT appears whole or not at all.
    """
    from ftt_hub.cli.output import message, print_json, print_line, quiet_loading, size
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.api.extract import extract
    from ftt_hub.extraction.builder import Provenance
    from ftt_hub.extraction.choice import Coding
    from ftt_hub.extraction.trials.trial import LossTrial

    provenance = Provenance(
        languages=languages,
        datasets=datasets,
        method=method,
        license=licence,
        source_id=source_id,
        fine_tuned_id=fine_tuned_id,
    )
    if text is None and (max_loss_increase is not None or target is not None):
        raise click.UsageError("--max-loss-increase and --target need --text FILE.")
    limits = (bits, target_size, max_error, noise, rounding, text)
    limited = any(item is not None for item in limits)
    coding = Coding(
        codec or ("quantized" if limited else "exact"),
        bits=bits,
        target_size=target_size,
        max_error=max_error,
        noise=noise,
        rounding=rounding,
        seed=seed,
    )
    trial = None
    if text is not None:
        trial = LossTrial(Path(text), target, max_loss_increase)
        quiet_loading()
    with progress_bar() as bar:
        adapter = extract(
            source_base,
            fine_tuned,
            out,
            codec=coding,
            provenance=provenance,
            sketch=not no_sketch,
            workers=workers,
            resume=resume,
            force=force,
            progress=bar,
            trial=trial,
        )
    config = adapter.config
    if as_json:
        print_json(config.to_json() | ({} if trial is None else {"trial": trial.to_json()}))
        return
    if trial is not None and trial.chosen is not None:
        _print_trial(trial)
    fidelity = config.fidelity
    stored = sum(facts["size"] for facts in config.files.values())
    print_line(
        f"{out}: {size(stored)}, {fidelity.ratio:.1%} of the model, "
        f"{fidelity.bits_per_weight:.3g} bits per weight, {_fidelity(config)}"
    )
    message(f"next: ftt-hub push {out} NAMESPACE/NAME --version 1.0.0")


def _print_trial(trial: LossTrial) -> None:
    """The curve that the codec was chosen by."""
    from ftt_hub.cli.output import print_line, print_table

    print_line(f"loss of m_t {trial.before:.4f}, of m_t + Δ {trial.exact:.4f} (nats per token)")
    rows = [
        (
            "chosen" if point is trial.chosen else "",
            point.rounding,
            f"{point.bits_per_weight:.3g}",
            f"{point.noise:.2%}",
            f"{point.tokens:,}",
            f"{point.loss.value:.4f}",
            f"{point.increase:+.4f}",
        )
        for point in sorted(trial.points, key=lambda point: (point.rounding, point.step))
    ]
    head = ("", "rounding", "bits/weight", "noise", "tokens", "loss", "increase [95%]")
    print_table(None, head, rows)
    if trial.divergence is not None:
        print_line(f"KL(m_t + Δ ‖ m_t + Δ̂) {trial.divergence:.3g} nats per token")


def _fidelity(config: AdapterConfig) -> str:
    """How faithful the stored Δ is, in half a line."""
    fidelity = config.fidelity
    if fidelity.exact:
        return "rebuilt bit for bit"
    return (
        f"relative error {fidelity.relative_error:.3g}, noise {fidelity.noise:.2%} of the weights"
    )
