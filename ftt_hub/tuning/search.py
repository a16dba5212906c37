"""The search for scales: golden section for one adapter, Nelder–Mead for several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftt_hub.errors import FttError, MissingExtraError

Scales = tuple[float, ...]
Objective = Callable[[Scales], float]

STEPS = 4
"""Number of intervals that the range of a scale is divided into before the search."""


@dataclass(frozen=True)
class Range:
    """The range of scales to search.

    Attributes:
        low: Least scale.
        high: Greatest scale.
        tolerance: Largest distance from the best scale.

    Raises:
        FttError: It is empty.
    """

    low: float = 0.0
    high: float = 2.0
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if not (-1e6 < self.low < self.high < 1e6 and 0 < self.tolerance < self.high - self.low):
            raise FttError(
                "not a range of scales",
                expected="least < greatest, and a smaller tolerance",
                found=f"{self.low:g} to {self.high:g}, tolerance {self.tolerance:g}",
            )


def _optimize() -> Any:
    """SciPy's optimizers.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    try:
        from scipy import optimize
    except ImportError as error:
        raise MissingExtraError(
            "the search for scales needs SciPy", hint="Run pip install 'ftt-hub[tune]'."
        ) from error
    return optimize


def search_one(objective: Objective, limits: Range) -> None:
    """A grid of five scales, then golden section between the neighbours of the best.

    SciPy's ``bounded`` method: golden section with parabolic steps (Brent 1973, chapter 5). The
    grid guards against a second valley.
    """
    optimize = _optimize()
    width = (limits.high - limits.low) / STEPS
    grid = [limits.low + n * width for n in range(STEPS + 1)]
    losses = [objective((x,)) for x in grid]
    best = grid[losses.index(min(losses))]
    bounds = (max(limits.low, best - width), min(limits.high, best + width))
    optimize.minimize_scalar(
        lambda x: objective((float(x),)),
        bounds=bounds,
        method="bounded",
        options={"xatol": limits.tolerance},
    )


def search_several(objective: Objective, count: int, limits: Range) -> None:
    """Nelder–Mead (1965) within bounds, from all scales at one, and once more from its best."""
    optimize = _optimize()
    start = min(max(1.0, limits.low), limits.high)
    corners = [[start] * count]
    step = (limits.high - limits.low) / STEPS
    for number in range(count):
        corner = [start] * count
        corner[number] += -step if start + step > limits.high else step
        corners.append(corner)
    optimize.minimize(
        lambda x: objective(tuple(float(v) for v in x)),
        corners[0],
        method="Nelder-Mead",
        bounds=[(limits.low, limits.high)] * count,
        options={
            "initial_simplex": corners,
            "xatol": limits.tolerance,
            "fatol": 1e-4,
            "maxfev": 30 * count,
        },
    )


def rounded(scales: Sequence[float], limits: Range) -> Scales:
    """Scales to a digit beyond the tolerance, so that a curve can be read and repeated."""
    digits = 0
    while 10**-digits > limits.tolerance / 10:
        digits += 1
    return tuple(round(scale, digits) + 0.0 for scale in scales)
