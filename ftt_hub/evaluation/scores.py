"""Figures with their uncertainty, and what Δ changes, paired where the samples are the same.

A figure is computed again on bootstrap samples of its own samples (ftt_hub.loss.estimates). Two
models asked the same are drawn the same samples, so the difference of the draws is the paired
bootstrap. The standard error of a mean is the sample one, as in the harness; that of any other
figure is the standard deviation of the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftt_hub.loss.estimates import Estimate, Floats, bounds, resampled

FEW_DRAWS = 300
"""Number of draws for figures that are not means: each draw aggregates all samples again."""


@dataclass(frozen=True)
class Score:
    """One model's figure on one metric.

    Attributes:
        value: The figure, as the harness aggregates it.
        standard_error: Standard error of the figure, ``None`` for a single sample.
        draws: The figure on bootstrap samples, shape (draws,).
        samples: One key per sample it was measured on, in order.
    """

    value: float
    standard_error: float | None
    draws: Floats
    samples: tuple[str, ...]

    @property
    def estimate(self) -> Estimate:
        """With its bootstrap interval."""
        return bounds(self.value, self.draws)

    def change_from(self, other: Score) -> Estimate | None:
        """This minus the other, paired; ``None`` when they were not asked the same."""
        if self.samples != other.samples:
            return None
        return bounds(self.value - other.value, self.draws - other.draws)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**self.estimate.to_json(), "standard_error": self.standard_error}


@dataclass(frozen=True)
class Line:
    """A metric of a task, for which every model has a score.

    Attributes:
        task: Task, group, or text file.
        metric: The metric's name.
        filter: The harness's filter of answers, ``none`` without one.
        higher_is_better: Direction, ``None`` when not known.
    """

    task: str
    metric: str
    filter: str = "none"
    higher_is_better: bool | None = None

    @property
    def title(self) -> str:
        """Metric and filter, for tables."""
        return self.metric if self.filter == "none" else f"{self.metric}, {self.filter}"


Scores = dict[Line, Score]


def mean_score(values: Floats, weights: Floats, samples: Sequence[str]) -> Score:
    """A weighted mean of the samples' values.

    Args:
        values: Shape (samples,).
        weights: Shape (samples,); tokens of a window, or 1 over the size of a sample's task.
        samples: Their keys.
    """
    weighted = values * weights
    drawn = resampled(np.stack([weighted, weights], axis=1))
    value = float(weighted.sum() / weights.sum())
    return Score(
        value, _standard_error(values, weights, value), drawn[:, 0] / drawn[:, 1], tuple(samples)
    )


def _standard_error(values: Floats, weights: Floats, mean: float) -> float | None:
    """Of a weighted mean, as that of a ratio; for equal weights s / √n with s² over n − 1."""
    count = len(values)
    if count < 2:
        return None
    spread = float(((weights * (values - mean)) ** 2).sum()) * count / (count - 1)
    return math.sqrt(spread) / float(weights.sum())


Aggregate = Callable[[list[Any]], float]


def aggregated_score(items: list[Any], aggregate: Aggregate, samples: Sequence[str]) -> Score:
    """A figure that the harness's own function makes of the samples' items.

    Args:
        items: What each sample contributes.
        aggregate: Makes the figure.
        samples: Their keys.
    """
    value = float(aggregate(items))
    plain = numbers(items)
    if plain is not None and math.isclose(value, float(plain.mean()), rel_tol=1e-9, abs_tol=1e-12):
        return mean_score(plain, np.ones(len(plain)), samples)
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(items), (FEW_DRAWS, len(items)))
    draws = np.array([float(aggregate([items[n] for n in row])) for row in drawn])
    error = float(draws.std(ddof=1)) if len(items) > 1 else None
    return Score(value, error, draws, tuple(samples))


def group_score(parts: Sequence[tuple[Floats, Sequence[str]]], value: float) -> Score | None:
    """The figure of a group of tasks, each of which is a mean.

    Args:
        parts: Values and keys of each task's samples.
        value: The figure by the harness: the mean of all samples, or the mean of the tasks.

    Returns:
        ``None`` when it is neither.
    """
    values = np.concatenate([part for part, _ in parts])
    samples = [key for _, keys in parts for key in keys]
    for power in (0, -1):
        weights = np.concatenate(
            [np.full(len(part), float(len(part)) ** power) for part, _ in parts]
        )
        mean = float((values * weights).sum() / weights.sum())
        if math.isclose(mean, value, rel_tol=1e-9, abs_tol=1e-12):
            return mean_score(values, weights, samples)
    return None


def numbers(items: list[Any]) -> Floats | None:
    """The samples' values where each is a number, else ``None``."""
    if all(isinstance(item, int | float | np.number | np.bool_) for item in items):
        return np.asarray(items, dtype=np.float64)
    return None
