"""A picture of a comparison: one panel a metric, one point a model, with its interval."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftt_hub.errors import MissingExtraError, OutputError
from ftt_hub.evaluation.report import Evaluation, Row
from ftt_hub.support.staging import output_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MOST_PANELS = 24
COLOURS = {"target": "#7a7a7a", "transfer": "#c2410c", "model": "#1d4ed8"}


def draw(evaluation: Evaluation, path: Path) -> None:
    """Write the picture, in the format of the file's suffix.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib, which is not installed",
            where=path,
            hint="Run pip install 'ftt-hub[plot]'.",
        ) from error
    rows = evaluation.rows[:MOST_PANELS]
    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    models = len(evaluation.contestants)
    figure = Figure(
        figsize=(1.2 + 3.6 * columns, lines * (1.1 + 0.36 * models)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    for number, row in enumerate(rows):
        panel = figure.add_subplot(lines, columns, number + 1)
        _panel(panel, evaluation, row, named=number % columns == 0)
    try:
        figure.savefig(path, dpi=160)
    except OSError as error:
        raise output_error(error, path) from error
    except ValueError as error:
        raise OutputError(
            "no such kind of picture", where=path, expected="a name that ends in .png, .svg or .pdf"
        ) from error


def _panel(panel: Axes, evaluation: Evaluation, row: Row, *, named: bool) -> None:
    """One metric: the models from top to bottom, m_t's value as a line through all."""
    count = len(evaluation.contestants)
    for number, (who, score) in enumerate(zip(evaluation.contestants, row.scores, strict=True)):
        estimate = score.estimate
        spread = [
            [max(0.0, estimate.value - estimate.low)],
            [max(0.0, estimate.high - estimate.value)],
        ]
        panel.errorbar(
            estimate.value, number, xerr=spread, fmt="o", color=COLOURS[who.kind], capsize=3, ms=5
        )
        panel.annotate(
            f"{estimate.value:.4g}",
            (estimate.value, number),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
            fontsize=7,
            color="#333333",
        )
    panel.axvline(row.scores[0].value, color="#bbbbbb", lw=0.8, zorder=0)
    panel.set_ylim(count - 0.5, -0.7)
    labels = [_cut(who.label) for who in evaluation.contestants] if named else [""] * count
    panel.set_yticks(range(count), labels, fontsize=8)
    better = {True: " (higher is better)", False: " (lower is better)", None: ""}
    title = f"{_cut(row.line.task)}\n{row.line.title}{better[row.line.higher_is_better]}"
    panel.set_title(title, fontsize=9, loc="left")
    panel.tick_params(axis="x", labelsize=7)
    panel.margins(x=0.15)
    if all(np.ptp(score.draws) == 0 for score in row.scores):  # points: no spread to scale by
        panel.set_xlim(
            min(s.value for s in row.scores) - 0.5, max(s.value for s in row.scores) + 0.5
        )
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _cut(label: str) -> str:
    return label if len(label) <= 32 else f"{label[:15]}…{label[-16:]}"
