"""A picture of the losses that a search for scales saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.errors import FttError, MissingExtraError
from ftt_hub.support.paths import PathLike
from ftt_hub.support.staging import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ftt_hub.tuning.tune import TuneResult

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: PathLike) -> Path:
    """Check, before the search, that a plot can be saved; returns the path.

    Raises:
        MissingExtraError: Matplotlib is not installed.
        FttError: Not a picture format.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "a plot needs Matplotlib", hint="Run pip install 'ftt-hub[plot]'."
        ) from error
    if Path(path).suffix.lower() not in SUFFIXES:
        raise FttError("not a picture format", where=path, expected=" or ".join(SUFFIXES))
    return Path(path)


def save_plot(result: TuneResult, path: PathLike) -> None:
    """Save loss over scale; for several adapters one panel each, the others at their best.

    Raises:
        MissingExtraError: Matplotlib is not installed.
        OutputError: It cannot be written.
    """
    file = check_plot(path)
    from matplotlib.figure import Figure

    count = len(result.adapters)
    figure = Figure(figsize=(1.5 + 4 * count, 4), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for number, panel in enumerate(panels):
        _draw(panel, result, number)
    panels[0].set_ylabel(f"loss on {result.text}, nats per token")
    with writing(file):
        figure.savefig(file, dpi=150)


def _draw(panel: Axes, result: TuneResult, number: int) -> None:
    points = sorted((scales[number], loss) for scales, loss in result.curve)
    line = "-" if len(result.adapters) == 1 else ""
    panel.plot(*zip(*points, strict=True), marker="o", linestyle=line, markersize=4, color="C0")
    best = result.scales[number]
    error = [[result.loss.value - result.loss.low], [result.loss.high - result.loss.value]]
    panel.errorbar(
        [best],
        [result.loss.value],
        yerr=error,
        marker="D",
        color="C3",
        capsize=3,
        label=f"best: {best:g}",
    )
    panel.axvline(1.0, color="0.7", linewidth=1)
    panel.set_xlabel(f"scale of {Path(result.adapters[number]).name}")
    panel.legend()
