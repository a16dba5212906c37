"""`ftt-hub verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, registry_option, workers_option

if TYPE_CHECKING:
    from ftt_hub.verdict.report import Verdict


class Scales(click.ParamType[tuple[float, ...]]):
    """Numbers such as ``0.5,1,1.5``."""

    name = "LIST"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse, or fail with the usage."""
        try:
            scales = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.5,1,1.5", param, ctx)
        if not all(-10 <= scale <= 10 for scale in scales):
            self.fail("a scale lies between -10 and 10", param, ctx)
        return scales


@click.command(
    "verify",
    epilog="Example: ftt-hub verify me/base-v1-turkish@v1.0.0 --target org/base-v2 --depth sketch",
)
@click.argument("adapter")
@click.option("--target", metavar="MODEL", help="Folder or Hub reference to check the fit with.")
@click.option(
    "--depth",
    type=click.Choice(["headers", "sketch", "weights", "loss"]),
    help="headers (default): no weights are read; sketch: some kilobytes of them; "
    "weights: all, exactly; loss: the models are run on --text.",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    help="Held-out text, JSONL or plain; implies --depth loss.",
)
@click.option(
    "--tokens",
    default=8192,
    show_default=True,
    type=click.IntRange(min=64),
    help="Tokens of the text to score.",
)
@click.option(
    "--scales",
    type=Scales(),
    default="0.25,0.5,0.75,1.25,1.5",
    show_default=True,
    help="λ to measure at, besides 0 and 1.",
)
@click.option("--device", help="Torch device to run on; default the GPU if there is one.")
@click.option("--source-base", metavar="MODEL", help="m_s, for exact distances and loss barriers.")
@click.option("--other", metavar="ADAPTER", help="Second adapter: do the two interfere?")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the verdict into this file.")
@click.option("--record", is_flag=True, help="Add the verdict to the adapter and its card.")
@click.option("--revision", help="Branch, tag or commit of the adapter.")
@click.option("--force", is_flag=True, help="Go deeper although the sketch rejects the target.")
@registry_option
@workers_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    adapter: str,
    target: str | None,
    depth: str | None,
    text: Path | None,
    tokens: int,
    scales: tuple[float, ...],
    device: str | None,
    source_base: str | None,
    other: str | None,
    plot: Path | None,
    record: bool,
    revision: str | None,
    force: bool,
    registry: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check ADAPTER: without --target its integrity, with one whether it fits and helps.

    Exit code 3: it does not fit. Exit code 4: it is damaged.
    """
    from ftt_hub.cli.output import message, print_json, print_line, quiet_loading
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.artifact.manifest import AdapterConfig
    from ftt_hub.verdict.options import TextOptions
    from ftt_hub.verdict.verify import verify

    if target is None and (text or plot or record or other or depth or source_base):
        raise click.UsageError("these options need --target")
    if other is not None and depth not in (None, "weights"):
        raise click.UsageError("--other belongs to --depth weights")
    options = None if text is None else TextOptions(text, tokens, scales=scales, device=device)
    chosen = depth or ("loss" if text else "weights" if other else "headers")
    if text is not None:
        quiet_loading()
    with progress_bar() as bar:
        result = verify(
            adapter,
            target,
            depth=chosen,
            text=options,
            source_base=source_base,
            other=other,
            force=force,
            revision=revision,
            registry=registry,
            workers=workers,
            progress=bar,
        )
    if isinstance(result, AdapterConfig):
        if as_json:
            print_json({"status": "intact", "content_digest": result.content_digest})
        else:
            print_line(f"{adapter}: intact ({result.content_digest})")
        return
    if plot is not None:
        from ftt_hub.verdict.plot import plot_verdict

        plot_verdict(result, plot)
    if record and target is not None:
        from ftt_hub.catalogue.record import record_verdict

        address = record_verdict(result, adapter, target, revision=revision, registry=registry)
        message(f"recorded: {address}")
    if as_json:
        print_json(result.to_json())
    else:
        print_report(result)
    if result.status == "rejected":
        ctx.exit(3)


def print_report(report: Verdict) -> None:
    """The verdict, then every finding, the figures, and the cost."""
    from ftt_hub.cli.output import print_facts, print_line, print_table, size

    print_line(f"{report.target}: {report.verdict}")
    rows = [(f.check, f.status.value, f.reason) for f in report.findings]
    print_table(None, ("check", "outcome", "reason"), rows)
    if report.loss is not None:
        points = report.loss.curve.points()
        print_table(
            "Loss of m_t + λΔ, nats per token, 95% interval",
            ("λ", "loss"),
            [(f"{scale:g}", f"{loss:.4f}") for scale, loss in points],
        )
    if report.weights is not None:
        _print_weights(report)
    labels = {
        "adapter_download": "adapter to download",
        "target_download": "target to download",
        "merged_disk": "merged model on disk",
        "load_memory": "memory to load it",
        "apply_memory": "memory to apply on disk, about",
    }
    print_facts({labels[key]: size(value) for key, value in report.estimate.items()})


def _print_weights(report: Verdict) -> None:
    from ftt_hub.cli.output import print_table

    if report.weights is None:
        return
    options = {"based": report.weights.based, "compared": report.weights.compared}
    whole = sum(sums.delta for sums in report.weights.tensors.values()) or 1.0
    rows = []
    for layer, sums in report.weights.layers.items():
        figures = sums.figures(**options)
        cells = [figures[key] for key in ("delta_to_target", "distance", "overlap")]
        shown = ("" if cell is None else f"{cell:.4g}" for cell in cells)
        rows.append((layer, f"{sums.delta / whole:.1%}", *shown))
    titles = ("layer", "share of ‖Δ‖²", "‖Δ‖/‖m_t‖", "‖m_t−m_s‖/‖m_s‖", "cos(Δ, m_t−m_s)")
    print_table("Weights, exact", titles, rows)
    spectra = [
        (
            name,
            f"{s.effective_rank:.1f} of {min(s.shape)}",
            str(s.rank_90),
            f"{s.top_ratio:.3g}",
            str(s.intruders),
        )
        for name, s in report.weights.spectra.items()
    ]
    titles = ("matrix of Δ", "effective rank", "90% of ‖Δ‖² in", "σ₁(Δ)/σ₁(W)", "intruders in 10")
    print_table("Spectra of some matrices", titles, spectra)
