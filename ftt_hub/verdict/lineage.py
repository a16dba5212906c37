"""How far a target lies from the source base, estimated from the sketch, with intervals.

The sketch is a sample of clusters: its runs (neighbouring weights, which share a row and are not
independent) are the units. Runs are drawn evenly over the matrices, so every kind of matrix
("model.layers.*.mlp.up_proj.weight") is a stratum of known size. Totals are the strata's run means
weighted by their sizes, variances are those between the runs of a stratum (Cochran 1977, "Sampling
Techniques", sections 5.3 and 9A.1), and ratios are linearised (section 6.4).

What the intervals assume: runs of one kind of matrix vary over the layers no less than within one
layer, which holds where layers differ and makes the interval of a single tensor a wide one. The
places are evenly spaced and not random, which is at least as precise unless weights repeat with
the same period.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ftt_hub.artifact.index import ADDED, ALIAS, TensorEntry
from ftt_hub.artifact.sketch import RunSums, SketchMatch, classify
from ftt_hub.loss.estimates import LEVEL, Estimate
from ftt_hub.support.findings import Finding, accepted, rejected, warned

Floats = NDArray[np.float64]

MIN_RUNS = 4
"""A kind of matrix with fewer runs is counted with the other small ones."""
_SOURCE, _TARGET, _CROSS, _CHANGE, _SIGN = range(5)
_LAYER = re.compile(r"\d+")


@dataclass(frozen=True)
class Distance:
    """How far m_t lies from m_s, over the matrices sampled or over one of them.

    Attributes:
        distance: ‖m_t − m_s‖ / ‖m_s‖.
        cosine: cos(m_t, m_s).
        sign_agreement: Share of the weights whose sign is the same.
        runs: Sampled runs it rests on.
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
class Lineage:
    """What the sketch tells of a target.

    Attributes:
        overall: Over all matrices of the source base.
        tensors: Over each tensor that has a sampled run.
        samples: Weights compared.
    """

    overall: Distance
    tensors: Mapping[str, Distance] = field(default_factory=dict)
    samples: int = 0

    @property
    def verdict(self) -> str:
        """``identical``, ``same lineage``, ``drifted``, ``unrelated`` or ``unknown``."""
        return classify(self.overall.cosine.value, self.overall.distance.value)

    @property
    def finding(self) -> Finding:
        """The verdict with its figures."""
        o = self.overall
        facts = (
            f"distance {o.distance:.3g}, cosine {o.cosine:.3f}, "
            f"same sign {o.sign_agreement.value:.1%}; 95% intervals from {o.runs} runs"
        )
        match self.verdict:
            case "unknown":
                return warned("sketch", "the sampled weights are not finite: lineage unknown")
            case "unrelated":
                return rejected("sketch", f"the weights are unrelated to the source base ({facts})")
            case "drifted":
                reason = f"the target has drifted far from the source base ({facts})"
                return warned("sketch", reason)
            case "identical":
                differing = min(1.0, 3 / o.runs)
                reason = f"at most {differing:.1%} of the places may differ (95%, rule of three)"
                return accepted(
                    "sketch", f"identical as the source base at {o.runs} runs; {reason}"
                )
            case verdict:
                return accepted("sketch", f"{verdict} as the source base ({facts})")

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "class": self.verdict,
            "samples": self.samples,
            "overall": self.overall.to_json(),
            "tensors": {name: one.to_json() for name, one in self.tensors.items()},
        }


@dataclass(frozen=True)
class _Stratum:
    """Runs of one kind of matrix: weights in all, mean and covariance of the runs' means."""

    weights: int
    runs: tuple[RunSums, ...]
    mean: Floats
    covariance: Floats


def _means(runs: Iterable[RunSums]) -> Floats:
    """A row a run: mean of m_s², m_t², m_s·(m_t − m_s), (m_t − m_s)² and same sign, a weight."""
    rows = [
        (r.source / r.count, r.target / r.count, r.cross / r.count, r.difference / r.count,
         r.agree / r.count)
        for r in runs
    ]  # fmt: skip
    return np.array(rows, np.float64)


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
    found = []
    for kind, members in pooled.items():
        table = _means(members)
        spread = np.cov(table, rowvar=False) if len(members) > 1 else np.zeros((5, 5))
        found.append(_Stratum(weights.get(kind, 0), tuple(members), table.mean(0), spread))
    return found


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


def estimate(match: SketchMatch, entries: Mapping[str, TensorEntry]) -> Lineage | None:
    """Estimates from a comparison; ``None`` from fewer than two runs.

    Args:
        match: What `ftt_hub.artifact.sketch.compare` showed.
        entries: The adapter's index: sizes of the source base's tensors and, where a delta is
            stored, their exact norms, which take the chance of the sample out of ‖m_s‖.
    """
    if len(match.runs) < 2:
        return None
    matrices = {
        name: entry
        for name, entry in entries.items()
        if len(entry.shape) >= 2 and entry.role not in (ADDED, ALIAS) and entry.dtype.is_float
    }
    sizes = {name: entry.count for name, entry in matrices.items()}
    sizes.update({r.name: r.count for r in match.runs if r.name not in sizes})
    strata = _strata(match.runs, sizes)
    total = sum(s.weights for s in strata)
    shares = [s.weights / total for s in strata]
    mean = np.sum([w * s.mean for w, s in zip(shares, strata, strict=True)], axis=0)
    covariance = np.sum(
        [w**2 * s.covariance / len(s.runs) for w, s in zip(shares, strata, strict=True)], axis=0
    )
    norms = [entry.norm[1] for entry in matrices.values() if entry.norm is not None]
    complete = len(norms) == len(matrices) and matrices.keys() == sizes.keys()
    known = sum(n * n for n in norms) / sum(sizes.values()) if complete and norms else None
    freedom = len(match.runs) - len(strata)
    overall = _figures(mean, covariance, freedom, len(match.runs), known)
    tensors = {}
    for stratum in strata:
        for name in dict.fromkeys(run.name for run in stratum.runs):
            entry = matrices.get(name)
            own = None
            if entry is not None and entry.norm is not None:
                own = entry.norm[1] ** 2 / entry.count
            members = [run for run in stratum.runs if run.name == name]
            tensors[name] = _one_tensor(stratum, members, own)
    return Lineage(overall, dict(sorted(tensors.items())), match.samples)
