"""The heat map of ‖Δ‖/‖m‖, layers by kind of module: a table that shows its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ftt_hub.artifact.norms import NormGrid

MAX_LAYERS, MAX_KINDS, MAX_OUTSIDE = 200, 24, 40


@dataclass(frozen=True)
class Cell:
    """One ratio.

    Attributes:
        text: In percent, three digits at most; empty where the model has no such module.
        heat: 0 to 1, relative to the largest of the map.
    """

    text: str
    heat: float

    @property
    def is_hot(self) -> bool:
        """Whether its text needs the other colour."""
        return self.heat > 0.55


@dataclass(frozen=True)
class HeatMap:
    """The map, ready to be drawn.

    Attributes:
        kinds: Column → (part, module): ``("self_attn", "q_proj")``.
        rows: Layer number and its cells.
        outside: Tensors outside the layers and their cells.
        summary: The map in a sentence.
        hidden: Layers and kinds left out because there are too many.
    """

    kinds: tuple[tuple[str, str], ...]
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]
    outside: tuple[tuple[str, Cell], ...]
    summary: str
    hidden: int


def percent(ratio: float) -> str:
    """A ratio in percent without its sign: ``0.0123`` → ``1.2``."""
    value = 100 * ratio
    if value == 0:
        return "0"
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.01 else f"{value:.2f}" if value < 1 else f"{value:.3g}"


def heat_map(grid: NormGrid) -> HeatMap | None:
    """The map of a grid; ``None`` when no layer has a norm."""
    if not grid.cells:
        return None
    kinds, layers = grid.kinds[:MAX_KINDS], grid.layers[:MAX_LAYERS]
    largest = max(grid.largest, *grid.outside.values(), 0.0) or 1.0

    def cell(ratio: float | None) -> Cell:
        return Cell("", 0.0) if ratio is None else Cell(percent(ratio), round(ratio / largest, 3))

    rows = tuple((n, tuple(cell(grid.cells.get((n, kind))) for kind in kinds)) for n in layers)
    outside = tuple((name, cell(r)) for name, r in list(grid.outside.items())[:MAX_OUTSIDE])
    hidden = len(grid.kinds) - len(kinds) + len(grid.layers) - len(layers)
    return HeatMap(tuple(map(_split, kinds)), rows, outside, _sentence(grid), hidden)


def _split(kind: str) -> tuple[str, str]:
    part, _, module = kind.rpartition(".")
    return part, module


def _sentence(grid: NormGrid) -> str:
    ordered = sorted(grid.cells.items(), key=lambda item: item[1])
    (low_layer, low_kind), low = ordered[0]
    (high_layer, high_kind), high = ordered[-1]
    by_layer = {n: _mean([r for (m, _), r in grid.cells.items() if m == n]) for n in grid.layers}
    busiest = max(by_layer, key=lambda n: by_layer[n])
    return (
        f"Largest: {percent(high)} % in layer {high_layer}, {high_kind}. "
        f"Smallest: {percent(low)} % in layer {low_layer}, {low_kind}. "
        f"On average layer {busiest} changed most."
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
