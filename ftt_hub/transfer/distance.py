"""How far a target is from the source base: estimates from sampled runs, with intervals.

The sketch is a cluster sample. Its units are the runs: neighbouring weights share a row and are
not independent. Runs are spread evenly over the matrices, so that every kind of matrix
("model.layers.*.mlp.up_proj.weight") is a stratum of known size. A total is the sum of the strata's
run means, each weighted by the size of its stratum: a run in a matrix with short rows has few
weights, and counts no less for it. Variances are those between the runs of a stratum (Cochran 1977,
"Sampling Techniques", sections 5.3 and 9A.1); ratios are linearised (section 6.4).

The intervals assume that the runs of one kind of matrix vary between layers no less than within
a layer. That is true where layers differ, and it makes the interval of a single tensor wide. The
positions are evenly spaced and not random. This is at least as precise, unless the weights repeat
with the period of the sample.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ftt_hub.artifact.index import ADDED, ALIAS
from ftt_hub.loss.estimates import LEVEL, Estimate

if TYPE_CHECKING:
    from ftt_hub.artifact.index import TensorEntry
    from ftt_hub.artifact.sketch import RunSums

Floats = NDArray[np.float64]

MIN_RUNS = 4
"""A kind of matrix with fewer runs is counted with the other small ones."""
_SOURCE, _TARGET, _CROSS, _CHANGE, _SIGN = range(5)
_LAYER = re.compile(r"\d+")


@dataclass(frozen=True)
class Distance:
    """How far m_t is from m_s, over all sampled matrices or over one of them.

    Attributes:
        distance: ‖m_t − m_s‖ / ‖m_s‖.
        cosine: cos(m_t, m_s).
        sign_agreement: Share of the weights whose sign is the same.
        runs: Number of sampled runs that the estimates are made from.
    """

    distance: Estimate
    cosine: Estimate
    sign_agreement: Estimate
    runs: int

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "distance": self.distance.to_json(),
            "cosine": self.cosine.to_json(),
            "sign_agreement": self.sign_agreement.to_json(),
            "runs": self.runs,
        }


@dataclass(frozen=True)
class _Stratum:
    """The runs of one kind of matrix: its size in weights, mean and covariance of the run means."""

    weights: int
    runs: tuple[RunSums, ...]
    mean: Floats
    covariance: Floats


def _means(runs: Iterable[RunSums]) -> Floats:
    """Per weight: m_s², m_t², m_s·(m_t − m_s), (m_t − m_s)² and same sign; a row per run."""
    sums = [(r.source, r.target, r.cross, r.difference, r.agree) for r in runs]
    counts = [[r.count] for r in runs]
    return np.array(sums, np.float64) / np.array(counts, np.float64)


def _strata(runs: Iterable[RunSums], sizes: Mapping[str, int]) -> list[_Stratum]:
    groups: dict[str, list[RunSums]] = {}
    for run in runs:
        groups.setdefault(_LAYER.sub("*", run.name), []).append(run)
    weights: dict[str, int] = {}
    for name, size in sizes.items():
        kind = _LAYER.sub("*", name)
        kind = kind if len(groups.get(kind, ())) >= MIN_RUNS else ""
        weights[kind] = weights.get(kind, 0) + size
    pooled: dict[str, list[RunSums]] = {}
    for kind, members in groups.items():
        pooled.setdefault(kind if len(members) >= MIN_RUNS else "", []).extend(members)
    return [_stratum(weights.get(kind, 0), members) for kind, members in pooled.items()]


def _stratum(weights: int, runs: list[RunSums]) -> _Stratum:
    means = _means(runs)
    covariance = np.cov(means, rowvar=False) if len(runs) > 1 else np.zeros((5, 5))
    return _Stratum(weights, tuple(runs), means.mean(0), covariance)


def _quantile(freedom: int, level: float = LEVEL) -> float:
    """Student's t by its expansion in 1/ν (Abramowitz and Stegun 26.7.5); 3% low at ν = 2."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    v = max(1, freedom)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def _cosine(mean: Floats) -> float:
    product = mean[_SOURCE] * mean[_TARGET]
    return math.nan if product <= 0 else (mean[_SOURCE] + mean[_CROSS]) / math.sqrt(product)


def _cosine_gradient(mean: Floats) -> Floats:
    cosine, product = _cosine(mean), mean[_SOURCE] * mean[_TARGET]
    gradient = np.zeros(5)
    if product > 0:
        gradient[_SOURCE] = 1 / math.sqrt(product) - cosine / (2 * mean[_SOURCE])
        gradient[_TARGET] = -cosine / (2 * mean[_TARGET])
        gradient[_CROSS] = 1 / math.sqrt(product)
    return gradient


def _distance(mean: Floats, covariance: Floats, t: float, known: float | None) -> Estimate:
    """√(Σ(m_t − m_s)² / Σm_s²), its interval made for the logarithm; `known` is Σm_s²."""
    source = mean[_SOURCE] if known is None else known
    if source <= 0:
        return Estimate(math.nan, math.nan, math.nan)
    value = math.sqrt(mean[_CHANGE] / source)
    if value == 0:
        return Estimate(0.0, 0.0, 0.0)
    gradient = np.zeros(5)
    gradient[_CHANGE] = 1 / mean[_CHANGE]
    gradient[_SOURCE] = 0.0 if known is not None else -1 / source
    half = t * math.sqrt(max(0.0, float(gradient @ covariance @ gradient))) / 2
    return Estimate(value, value * math.exp(-half), value * math.exp(min(half, 50.0)))


def _bounded(value: float, half: float, low: float, high: float) -> Estimate:
    return Estimate(value, max(low, value - half), min(high, value + half))


def _figures(
    mean: Floats, covariance: Floats, freedom: int, runs: int, known: float | None
) -> Distance:
    t = _quantile(freedom)
    gradient = _cosine_gradient(mean)
    half = t * math.sqrt(max(0.0, float(gradient @ covariance @ gradient)))
    signs = t * math.sqrt(max(0.0, float(covariance[_SIGN, _SIGN])))
    return Distance(
        _distance(mean, covariance, t, known),
        _bounded(_cosine(mean), half, -1.0, 1.0),
        _bounded(float(mean[_SIGN]), signs, 0.0, 1.0),
        runs,
    )


def _one_tensor(stratum: _Stratum, runs: list[RunSums], known: float | None) -> Distance:
    """Figures of one tensor; the spread of its kind, scaled to the tensor's own size."""
    mean = _means(runs).mean(0)

    def scale(part: int) -> float:
        return float(mean[part] / stratum.mean[part]) if stratum.mean[part] > 0 else 1.0

    source, target, change = scale(_SOURCE), scale(_TARGET), scale(_CHANGE)
    factors = np.array([source, target, math.sqrt(source * change), change, 1.0])
    covariance = stratum.covariance * np.outer(factors, factors) / len(runs)
    return _figures(mean, covariance, len(stratum.runs) - 1, len(runs), known)


def distances(
    runs: Sequence[RunSums], entries: Mapping[str, TensorEntry]
) -> tuple[Distance, dict[str, Distance]] | None:
    """Estimate the distance over all matrices, and over each tensor that has a run.

    Args:
        runs: Sums of the sampled runs that could be compared.
        entries: The adapter's index. It has the sizes of the source base's tensors and, where a
            delta is stored, their exact norms, which make ‖m_s‖ exact.

    Returns:
        ``None`` for fewer than two runs.
    """
    if len(runs) < 2:
        return None
    matrices = {
        name: entry
        for name, entry in entries.items()
        if len(entry.shape) >= 2
        and entry.count
        and entry.dtype.is_float
        and entry.role not in (ADDED, ALIAS)
    }
    sizes = {name: entry.count for name, entry in matrices.items()}
    sizes.update({r.name: r.count for r in runs if r.name not in sizes})
    strata = _strata(runs, sizes)
    overall = _overall(strata, len(runs), _mean_square(matrices, sizes))
    tensors = {}
    for stratum in strata:
        for name in dict.fromkeys(run.name for run in stratum.runs):
            members = [run for run in stratum.runs if run.name == name]
            tensors[name] = _one_tensor(stratum, members, _own_mean_square(matrices.get(name)))
    return overall, dict(sorted(tensors.items()))


def _overall(strata: list[_Stratum], runs: int, known: float | None) -> Distance:
    total = sum(s.weights for s in strata)
    shares = [s.weights / total for s in strata]
    mean = np.sum([w * s.mean for w, s in zip(shares, strata, strict=True)], axis=0)
    covariance = np.sum(
        [w**2 * s.covariance / len(s.runs) for w, s in zip(shares, strata, strict=True)], axis=0
    )
    return _figures(mean, covariance, runs - len(strata), runs, known)


def _mean_square(matrices: Mapping[str, TensorEntry], sizes: Mapping[str, int]) -> float | None:
    """Exact mean of m_s² over all matrices; ``None`` unless the index has every norm."""
    norms = [entry.norm[1] for entry in matrices.values() if entry.norm is not None]
    if not norms or len(norms) < len(matrices) or matrices.keys() != sizes.keys():
        return None
    return sum(n * n for n in norms) / sum(sizes.values())


def _own_mean_square(entry: TensorEntry | None) -> float | None:
    return None if entry is None or entry.norm is None else entry.norm[1] ** 2 / entry.count
