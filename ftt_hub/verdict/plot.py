"""The verdict as a picture: loss over λ with its interval, and the distance of each layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.errors import FttError, MissingExtraError
from ftt_hub.support.staging import writing
from ftt_hub.verdict.evidence import LossEvidence
from ftt_hub.verdict.report import Verdict
from ftt_hub.verdict.weights import LAYER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#1f5fa8", "#c8641e", "#777777"
Point = tuple[str, float, float, float]


def plot_verdict(verdict: Verdict, path: Path) -> None:
    """Write a PNG (or what the suffix says) with a panel for each kind of evidence.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FttError: The verdict has no figures to draw, or the suffix is unknown.
        OutputError: The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib", hint="pip install 'ftt-hub[plot]'"
        ) from error
    if verdict.lineage is None:
        raise FttError(
            "nothing to draw",
            where=path,
            expected="figures",
            hint="Use --depth sketch or deeper, and an adapter with a sketch.",
        )
    figure = Figure(figsize=(11 if verdict.loss else 6.5, 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    if path.suffix[1:].lower() not in canvas.get_supported_filetypes():
        raise FttError("no such picture format", where=path, expected=".png, .svg or .pdf")
    count = 2 if verdict.loss else 1
    if verdict.loss is not None:
        _loss_panel(figure.add_subplot(1, count, 1), verdict.loss)
    _layer_panel(figure.add_subplot(1, count, count), verdict)
    figure.suptitle(
        f"{_short(verdict.adapter)}  →  {_short(verdict.target)}: {verdict.status}", fontsize=11
    )
    with writing(path):
        canvas.print_figure(path, dpi=130)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"…{text[-39:]}"


def _loss_panel(axes: Axes, loss: LossEvidence) -> None:
    points = loss.curve.points()
    scales = [scale for scale, _ in points]
    low, high = [e.low for _, e in points], [e.high for _, e in points]
    axes.fill_between(scales, low, high, color=BLUE, alpha=0.18, linewidth=0, label="95% interval")
    axes.plot(scales, [e.value for _, e in points], "o-", color=BLUE, label="m_t + λΔ")
    best = loss.curve.best()
    axes.axvspan(best.low, best.high, color=ORANGE, alpha=0.15, linewidth=0)
    axes.axvline(best.value, color=ORANGE, linestyle="--", linewidth=1, label=f"best λ {best:.2f}")
    if loss.source is not None:
        for scale, label, style in ((0.0, "m_s", ":"), (1.0, "m'_s", "-.")):
            if scale in loss.source.losses:
                axes.axhline(
                    loss.source.losses[scale].mean,
                    color=GREY,
                    linewidth=1,
                    linestyle=style,
                    label=label,
                )
    axes.set_xlabel("λ")
    axes.set_ylabel("loss, nats per token")
    axes.set_title(f"Loss on {loss.text.label} ({loss.text.tokens:,} tokens)", fontsize=10)
    axes.legend(fontsize=8, framealpha=0.85, edgecolor="none")


def _layer_panel(axes: Axes, verdict: Verdict) -> None:
    exact = verdict.weights is not None and verdict.weights.based
    points = _exact(verdict) if exact else _sampled(verdict)
    numbers = list(range(len(points)))
    values = [value for _, value, _, _ in points]
    low = [max(0.0, value - low) for _, value, low, _ in points]
    high = [max(0.0, high - value) for _, value, _, high in points]
    axes.errorbar(
        numbers,
        values,
        yerr=[low, high],
        fmt="o",
        color=BLUE,
        ecolor=BLUE,
        elinewidth=1,
        capsize=2,
        markersize=4,
    )
    step = -(-len(points) // 10)
    ticks = [n for n in numbers[::step] if n < len(points) - step] + numbers[-1:]
    axes.set_xticks(ticks, [points[n][0] for n in ticks], fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer")
    axes.set_ylabel("‖m_t − m_s‖ / ‖m_s‖")
    kind = "exact" if exact else "sketch: mean and range over sampled matrices"
    axes.set_title(f"Distance to the source base ({kind})", fontsize=9)


def _exact(verdict: Verdict) -> list[Point]:
    layers = {} if verdict.weights is None else verdict.weights.layers
    distances = [
        (layer, sums.figures(based=True, compared=False)["distance"])
        for layer, sums in layers.items()
    ]
    return [(layer, value, value, value) for layer, value in distances if value is not None]


def _sampled(verdict: Verdict) -> list[Point]:
    groups: dict[str, list[float]] = {}
    for name, one in ({} if verdict.lineage is None else verdict.lineage.tensors).items():
        match = LAYER.search(name)
        groups.setdefault(match[1] if match else "other", []).append(one.distance.value)
    order = sorted(groups, key=lambda layer: (not layer.isdigit(), layer.zfill(6)))
    return [(g, sum(v) / len(v), min(v), max(v)) for g, v in ((g, groups[g]) for g in order)]
