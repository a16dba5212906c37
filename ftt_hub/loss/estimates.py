"""A mean with its interval: the percentile bootstrap over windows of text.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Windows are drawn, not
tokens: the tokens of one window share their context and are not independent. Two models measured
on the same windows are compared window by window (paired), which removes the spread of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and the bounds of its confidence interval.

    Attributes:
        value: The figure, in the unit of what was measured.
        low: Lower bound.
        high: Upper bound.
        level: Confidence of the interval, such as 0.95.
    """

    value: float
    low: float
    high: float
    level: float = LEVEL

    def to_json(self) -> dict[str, float]:
        """The figure with its bounds, for a report."""
        figures = {"value": self.value, "low": self.low, "high": self.high, "level": self.level}
        return {name: float(figure) for name, figure in figures.items()}

    def __format__(self, spec: str) -> str:
        """``value [low, high]``, each in the format given."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def resampled(values: Floats, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Sums over bootstrap samples of the rows of `values`.

    Args:
        values: Shape (windows, columns), float64.
        draws: Bootstrap samples.
        seed: Seed of NumPy's PCG64; the same seed draws the same windows, which pairs two calls.

    Returns:
        Shape (draws, columns), float64: the sum of each column over the windows drawn.
    """
    count = len(values)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.asarray(weights @ values, dtype=np.float64)


def bounds(value: float, samples: Floats, level: float = LEVEL) -> Estimate:
    """`value` with the percentile interval of its bootstrap samples."""
    low, high = np.quantile(samples, ((1 - level) / 2, (1 + level) / 2))
    return Estimate(value, float(low), float(high), level)


def mean_difference(first: Floats, second: Floats, tokens: Floats, **kwargs: int) -> Estimate:
    """Mean of ``first - second`` per token, paired by window.

    Args:
        first: Summed loss of each window, nats, shape (windows,).
        second: The same windows under the other model.
        tokens: Scored tokens of each window.
        **kwargs: `draws` and `seed` of :func:`resampled`.
    """
    change = first - second
    drawn = resampled(np.stack([change, tokens], axis=1), **kwargs)
    return bounds(float(change.sum() / tokens.sum()), drawn[:, 0] / drawn[:, 1])


def mean_ratio(part: Floats, whole: Floats, **kwargs: int) -> Estimate:
    """Sum of `part` over sum of `whole`, both given by window.

    The share of fine-tuning's gain that a transfer keeps is one: part = L(m_t) - L(m_t + Δ),
    whole = L(m_t) - L(FT(m_t)).
    """
    drawn = resampled(np.stack([part, whole], axis=1), **kwargs)
    return bounds(float(part.sum() / whole.sum()), drawn[:, 0] / drawn[:, 1])
