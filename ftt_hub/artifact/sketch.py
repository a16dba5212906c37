"""The sketch: a small sample of the source base that tells a relative from a stranger.

Two models of the same shape need have nothing in common; adding Δ to a stranger gives noise and
no error. The sketch holds up to 256 short runs of the source base's weights, spread over its
matrices in proportion to their size. Reading the same places from a target gives an estimate of
cos(m_t, m_s) and ‖m_t − m_s‖ / ‖m_s‖, without having the source base.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ftt_hub.errors import CheckpointError, IntegrityError
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.support.staging import write_atomic
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.file import SafetensorsFile
from ftt_hub.tensors.header import TensorInfo, build_header, parse_json
from ftt_hub.tensors.rounding import widen

SKETCH_NAME = "sketch.safetensors"
MAX_RUNS = 256
SHARE = 0.0005
"""At most this part of the source base's bytes …"""
FLOOR_BYTES = 16 * 1024
"""… but enough to decide on tiny models too …"""
CEILING_BYTES = 512 * 1024
"""… and no more than this on large ones: 256 runs of 2 KB settle the question."""

UNRELATED_BELOW = 0.25
DRIFTED_BELOW = 0.9
"""Cosines of independent models lie within ±0.05, those of successive versions above 0.9."""

Run = tuple[int, int]


@dataclass(frozen=True)
class Sketch:
    """Sampled runs of a model.

    Attributes:
        values: Checkpoint name → dtype, runs (first element, count) and their bits in order.
    """

    values: Mapping[str, tuple[DType, tuple[Run, ...], Bits]]


@dataclass(frozen=True)
class RunSums:
    """Sums over one sampled run of m_s and m_t, in float64.

    Attributes:
        name: The source base's tensor.
        count: Weights of the run.
        source: Σ m_s².
        target: Σ m_t².
        cross: Σ m_s · (m_t − m_s).
        difference: Σ (m_t − m_s)².
        agree: Weights whose sign is the same on both sides; two zeros agree.
    """

    name: str
    count: int
    source: float
    target: float
    cross: float
    difference: float
    agree: int


@dataclass(frozen=True)
class SketchMatch:
    """What comparing a sketch with a target showed.

    Attributes:
        cosine: Estimate of cos(m_t, m_s) over all sampled weights; NaN without samples.
        distance: Estimate of ‖m_t − m_s‖ / ‖m_s‖; NaN without samples.
        samples: Weights compared.
        runs: The sums of each run, from which `verdict.lineage` makes estimates with intervals.
    """

    cosine: float
    distance: float
    samples: int
    runs: tuple[RunSums, ...] = ()

    @property
    def verdict(self) -> str:
        """``identical``, ``same lineage``, ``drifted``, ``unrelated`` or ``unknown``."""
        if not self.samples:
            return "unknown"
        return classify(self.cosine, self.distance)


def classify(cosine: float, distance: float) -> str:
    """``identical``, ``same lineage``, ``drifted``, ``unrelated`` or ``unknown`` (not finite)."""
    if not math.isfinite(cosine) or not math.isfinite(distance):
        return "unknown"
    if distance == 0:
        return "identical"
    if cosine < UNRELATED_BELOW:
        return "unrelated"
    return "drifted" if cosine < DRIFTED_BELOW else "same lineage"


def _eligible(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """Float matrices in name order; norms and biases look alike in strangers."""
    return sorted(
        (t for t in tensors if t.dtype.is_float and len(t.shape) >= 2 and t.count),
        key=lambda t: t.name,
    )


def plan_runs(tensors: Iterable[TensorInfo]) -> dict[str, tuple[Run, ...]]:
    """The places to sample: evenly spaced over all matrices, each within one row."""
    matrices = _eligible(tensors)
    total = sum(t.count for t in matrices)
    if not total:
        return {}
    nbytes = sum(t.nbytes for t in matrices)
    budget = min(CEILING_BYTES, max(FLOOR_BYTES, int(nbytes * SHARE)))
    length = max(1, int(budget / (nbytes / total)) // MAX_RUNS)
    runs: dict[str, list[Run]] = {}
    position, start = 0, 0
    for tensor in matrices:
        while position < MAX_RUNS and (2 * position + 1) * total // (2 * MAX_RUNS) < (
            start + tensor.count
        ):
            element = (2 * position + 1) * total // (2 * MAX_RUNS) - start
            row = tensor.row_elements
            column = min(element % row, max(0, row - length))
            run = (element - element % row + column, min(length, row))
            if run not in runs.setdefault(tensor.name, []):
                runs[tensor.name].append(run)
            position += 1
        start += tensor.count
    return {name: tuple(sorted(set(items))) for name, items in runs.items()}


def take(tensors: Mapping[str, TensorInfo], read_bits: Callable[[str, int, int], Bits]) -> Sketch:
    """Sample a model."""
    values = {}
    for name, runs in plan_runs(tensors.values()).items():
        bits = np.concatenate([read_bits(name, start, count) for start, count in runs])
        values[name] = (tensors[name].dtype, runs, bits)
    return Sketch(values)


def write_sketch(sketch: Sketch, path: Path) -> None:
    """Write `sketch.safetensors`: a 1-D tensor of sampled values for each sampled tensor."""
    header = {n: (d.name, (b.size,), b.nbytes) for n, (d, _, b) in sketch.values.items()}
    runs = {name: [list(run) for run in r] for name, (_, r, _) in sketch.values.items()}
    metadata = {"runs": json.dumps(runs, sort_keys=True, separators=(",", ":"))}
    payload = b"".join(bits.tobytes() for _, _, bits in sketch.values.values())
    write_atomic(path, build_header(header, metadata) + payload)


def _runs_from(value: object, where: Path) -> dict[str, tuple[Run, ...]]:
    if not isinstance(value, dict):
        raise IntegrityError("the list of runs is malformed", where=where)
    result: dict[str, tuple[Run, ...]] = {}
    for name, runs in value.items():
        if not isinstance(runs, list) or not all(
            isinstance(r, list) and len(r) == 2 and all(type(n) is int and n >= 0 for n in r)
            for r in runs
        ):
            raise IntegrityError(f"the runs of {name!r:.100} are malformed", where=where)
        result[name] = tuple((r[0], r[1]) for r in runs)
    if sum(map(len, result.values())) > MAX_RUNS:
        raise IntegrityError("too many runs", where=where, expected=f"≤ {MAX_RUNS}")
    return result


def read_sketch(folder: Path) -> Sketch | None:
    """The sketch of an adapter folder, ``None`` when it was made without one.

    Raises:
        IntegrityError: It is damaged.
    """
    path = folder / SKETCH_NAME
    if not path.is_file():
        return None
    try:
        with SafetensorsFile(path) as file:
            runs = _runs_from(parse_json(file.metadata.get("runs", "").encode(), str(path)), path)
            values = {}
            for name, info in file.tensors.items():
                places = runs.get(name, ())
                if not info.dtype.is_float or sum(n for _, n in places) != info.count:
                    raise IntegrityError(f"the runs of {name!r:.100} do not add up", where=path)
                values[name] = (info.dtype, places, file.read_bits(info, 0, info.count))
    except CheckpointError as error:
        raise IntegrityError(f"damaged: {error.what}", where=path) from error
    return Sketch(values)


Locate = Callable[[str, int], tuple[str, int] | None]
"""Maps a sampled tensor and element to the target's tensor and element, ``None``: not there."""


def compare(
    sketch: Sketch,
    tensors: Mapping[str, TensorInfo],
    read_bits: Callable[[str, int, int], Bits],
    locate: Locate = lambda name, element: (name, element),
) -> SketchMatch:
    """Read the sampled places from a target and compare."""
    sums: list[RunSums] = []
    for name, (dtype, runs, bits) in sketch.values.items():
        done = 0
        for start, count in runs:
            ours = widen(bits[done : done + count], dtype).astype(np.float64)
            done += count
            place = locate(name, start)
            info = None if place is None else tensors.get(place[0])
            if place is None or info is None or not info.dtype.is_float:
                continue
            if place[1] + count > info.count:
                continue
            theirs = widen(read_bits(info.name, place[1], count), info.dtype).astype(np.float64)
            sums.append(_sums(name, ours, theirs))
    return match_of(sums)


def _sums(name: str, source: NDArray[np.float64], target: NDArray[np.float64]) -> RunSums:
    change = target - source
    return RunSums(
        name,
        source.size,
        float(np.dot(source, source)),
        float(np.dot(target, target)),
        float(np.dot(source, change)),
        float(np.dot(change, change)),
        int(np.count_nonzero(np.sign(source) == np.sign(target))),
    )


def match_of(runs: Iterable[RunSums]) -> SketchMatch:
    """Cosine and distance over all sampled weights together."""
    found = tuple(runs)
    samples = sum(run.count for run in found)
    source, target = sum(run.source for run in found), sum(run.target for run in found)
    if not source or not target:
        return SketchMatch(math.nan, math.nan, samples, found)
    dot = source + sum(run.cross for run in found)
    distance = math.sqrt(sum(run.difference for run in found) / source)
    return SketchMatch(dot / math.sqrt(source * target), distance, samples, found)


def judge(match: SketchMatch) -> Finding:
    """The finding of a comparison."""
    facts = f"cosine {match.cosine:.3f}, distance {match.distance:.4f}, {match.samples} weights"
    if match.verdict == "unknown":
        return warned("sketch", "none of the sampled places is in the target: lineage unknown")
    if match.verdict == "unrelated":
        return rejected("sketch", f"the weights are unrelated to the source base ({facts})")
    if match.verdict == "drifted":
        return warned("sketch", f"the target has drifted far from the source base ({facts})")
    return accepted("sketch", f"{match.verdict} as the source base ({facts})")
