"""`ftt-hub tune`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import json_option, registry_option


@click.command(
    "tune",
    epilog="Example: ftt-hub tune ./turkish --target org/base-v2 --text held_out.txt "
    "--plot scale.png --write",
)
@click.argument("adapters", nargs=-1, required=True, metavar="ADAPTER...")
@click.option("--target", required=True, metavar="MODEL", help="Folder or Hub reference of m_t.")
@click.option("--text", required=True, type=click.Path(), help="Held-out text, plain or JSONL.")
@click.option("--min-scale", default=0.0, show_default=True, help="Least scale to try.")
@click.option("--max-scale", default=2.0, show_default=True, help="Greatest scale to try.")
@click.option(
    "--tolerance",
    default=0.02,
    show_default=True,
    help="Width of the interval around λ at which the search ends.",
)
@click.option(
    "--tokens",
    default=20_000,
    show_default=True,
    type=click.IntRange(64),
    help="Tokens of the text to use.",
)
@click.option("--plot", type=click.Path(), help="Save the curve (png, svg or pdf).")
@click.option(
    "--write", is_flag=True, help="Write the result into the adapters' cards as recommended scale."
)
@click.option("--device", help="Torch device to run on; default the GPU if there is one.")
@click.option("--force", is_flag=True, help="Continue although an adapter does not fit.")
@registry_option
@json_option
def command(
    adapters: tuple[str, ...],
    target: str,
    text: str,
    min_scale: float,
    max_scale: float,
    tolerance: float,
    tokens: int,
    plot: str | None,
    write: bool,
    device: str | None,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Find the scale of each ADAPTER at which target + Σ λ·Δ has the least loss on TEXT.

    Golden section for one adapter, Nelder–Mead for several; the model is in memory once. Needs
    pip install 'ftt-hub[tune]', and 'ftt-hub[plot]' for --plot.
    """
    from ftt_hub.cli.output import message, print_json, print_line, print_table
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.tuning.plot import check_plot, save_plot
    from ftt_hub.tuning.search import Range
    from ftt_hub.tuning.tune import tune, write_recommendations

    if plot is not None:
        check_plot(plot)
    with progress_bar() as bar:
        result = tune(
            adapters,
            target,
            text,
            limits=Range(min_scale, max_scale, tolerance),
            tokens=tokens,
            registry=registry,
            device=device,
            force=force,
            progress=bar,
        )
    if plot is not None:
        save_plot(result, plot)
    if write:
        write_recommendations(result, adapters)
    for note in result.notes:
        message(f"note: {note}")
    if as_json:
        print_json(result.to_json())
        return
    rows = sorted(result.curve) if len(adapters) == 1 else result.curve
    print_table(
        None, ("scale", "loss"), [(", ".join(f"{s:g}" for s in k), f"{x:.4f}") for k, x in rows]
    )
    print_line(f"best scale: {', '.join(f'{s:g}' for s in result.scales)}")
    print_line(
        f"loss: {result.loss:.4f}; against scale 1: {result.against_one:+.4f}; "
        f"against the target alone: {result.against_zero:+.4f}"
    )
