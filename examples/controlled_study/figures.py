"""The study's pictures, drawn from its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlled_study.intervals import Interval
from controlled_study.numbers import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ALONE, _FROM_BELOW, _FROM_ABOVE = "#555555", "#1f77b4", "#d95f02"
_ITERATIVE, _DIRECT = "#7b3294", "#1f77b4"
_DPI = 130
_LOW = 40.0


def draw(families: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """All pictures; their files."""
    import matplotlib as mpl

    mpl.use("Agg")
    numbers = [Numbers(family) for family in families]
    pictures = {
        "study-matrix.png": _matrix(numbers),
        "study-curves.png": _curves(numbers),
        "study-iterative.png": _iterative(numbers),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        figure.savefig(folder / name, dpi=_DPI, bbox_inches="tight")
    return [folder / name for name in pictures]


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, columns, figsize=(width, height), squeeze=False, sharey=True, layout="constrained"
    )
    plt.close(figure)  # from pyplot's list only
    return figure, list(axes[0])


def _matrix(numbers: list[Numbers]) -> Figure:
    """Table 3: rows M_i, columns what is added; Δ_i on M_i is fine-tuning."""
    count = numbers[0].count
    rows = range(1, count + 1)
    names = ["nothing", *(f"Δ$_{j}$" for j in rows)]
    cells = [
        [Interval.of([n.base(i) for n in numbers])]
        + [Interval.of([n.plus(i, j) for n in numbers]) for j in rows]
        for i in rows
    ]
    figure, (axes,) = _figure(1, 8.2, 4.2)
    image = axes.imshow(
        [[cell.mean for cell in row] for row in cells],
        cmap="viridis",
        vmin=0,
        vmax=100,
        aspect="auto",
    )
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            text = f"{cell.mean:.1f}" + (f"\n±{cell.half:.1f}" if len(numbers) > 1 else "")
            colour = "black" if cell.mean > 60 else "white"
            bold = "bold" if x == y + 1 else "normal"
            axes.text(
                x, y, text, ha="center", va="center", color=colour, fontsize=9, fontweight=bold
            )
    axes.set_xticks(range(count + 1), names)
    axes.set_yticks(range(count), [f"M$_{i}$" for i in rows])
    axes.set_xlabel("added to the version (bold: its own, which is fine-tuning)")
    axes.set_title(f"Exact answers, %: mean and 95% interval over {len(numbers)} seeds")
    figure.colorbar(image, ax=axes)
    return figure


def _curves(numbers: list[Numbers]) -> Figure:
    """Figure 2: accuracy against steps, for each target."""
    figure, panels = _figure(numbers[0].count, 14, 3.4)
    for i, axes in zip(numbers[0].versions, panels, strict=True):
        _band(axes, numbers, (i,), f"M$_{i}$", _ALONE)
        for j, colour in ((i - 1, _FROM_BELOW), (i + 1, _FROM_ABOVE)):
            if j in numbers[0].versions:
                _band(axes, numbers, (j, i), f"M$_{i}$ + Δ$_{j}$", colour)
        _dress(axes, f"M$_{i}$")
    panels[0].set_ylabel("exact answers, %")
    return figure


def _iterative(numbers: list[Numbers]) -> Figure:
    """Figure 4: Δ^iter against Δ^dir against none."""
    last = numbers[0].count
    figure, panels = _figure(last - 2, 11, 3.6)
    for i, axes in zip(range(3, last + 1), panels, strict=True):
        _band(axes, numbers, (i,), "none", _ALONE)
        _band(axes, numbers, (i - 1, i), f"Δ$_{i - 1}^{{dir}}$", _DIRECT)
        _band(axes, numbers, numbers[0].iterative(i), f"Δ$_{i - 1}^{{iter}}$", _ITERATIVE)
        _dress(axes, f"M$_{i}$ + … → FT")
    panels[0].set_ylabel("exact answers, %")
    return figure


def _band(
    axes: Axes, numbers: list[Numbers], versions: tuple[int, ...], label: str, colour: str
) -> None:
    curves = [n.curve(*versions) for n in numbers]
    steps = [step for step, _ in curves[0]]
    points = [Interval.of([curve[k][1] for curve in curves]) for k in range(len(steps))]
    axes.plot(steps, [point.mean for point in points], ".-", color=colour, label=label)
    if len(numbers) > 1:
        low = [max(0.0, point.low) for point in points]
        high = [min(100.0, point.high) for point in points]
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _dress(axes: Axes, title: str) -> None:
    top = max(float(max(line.get_ydata())) for line in axes.get_lines())
    axes.set_title(title)
    axes.set_xlabel("steps of fine-tuning")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left" if top < _LOW else "lower right")
