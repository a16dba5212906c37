"""The sketch: a small sample of the source base that tells a relative from a stranger.

Two models of the same shape may have nothing in common. Adding Δ to a stranger then gives noise
and no error. The sketch has up to 256 short runs of the source base's weights, spread over its
matrices in proportion to their size. Reading the same runs from a target shows how far the two
models are apart, without the source base; `ftt_hub.transfer.lineage` judges it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ftt_hub.errors import CheckpointError, IntegrityError
from ftt_hub.support.staging import write_atomic
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.file import SafetensorsFile
from ftt_hub.tensors.header import TensorInfo, build_header, parse_json
from ftt_hub.tensors.rounding import widen

SKETCH_NAME = "sketch.safetensors"
MAX_RUNS = 256
SHARE = 0.0005
"""Largest share of the source base's bytes that is sampled, between the two limits below."""
FLOOR_BYTES = 16 * 1024
"""So much is sampled of a tiny model too, so that there is enough to decide on."""
CEILING_BYTES = 512 * 1024
"""No more is sampled of a large model: 256 runs of 2 KB are enough."""

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


def _eligible(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """Float matrices in name order; norms and biases look alike in strangers."""
    return sorted(
        (t for t in tensors if t.dtype.is_float and len(t.shape) >= 2 and t.count),
        key=lambda t: t.name,
    )


def plan_runs(tensors: Iterable[TensorInfo]) -> dict[str, tuple[Run, ...]]:
    """The runs to sample: evenly spaced over all matrices, each within one row."""
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
                sampled = runs.get(name, ())
                if not info.dtype.is_float or sum(n for _, n in sampled) != info.count:
                    raise IntegrityError(f"the runs of {name!r:.100} do not add up", where=path)
                values[name] = (info.dtype, sampled, file.read_bits(info, 0, info.count))
    except CheckpointError as error:
        raise IntegrityError(f"damaged: {error.what}", where=path) from error
    return Sketch(values)


Locate = Callable[[str, int], tuple[str, int] | None]
"""Maps a sampled tensor and element to the target's; ``None``: the target does not have it."""


def compare(
    sketch: Sketch,
    tensors: Mapping[str, TensorInfo],
    read_bits: Callable[[str, int, int], Bits],
    locate: Locate = lambda name, element: (name, element),
) -> tuple[RunSums, ...]:
    """Read the sampled runs from a target and compare them, leaving out what it does not have.

    Args:
        sketch: The source base's sketch.
        tensors: The target's tensors.
        read_bits: Reads bits of a target's tensor by name, first element and count.
        locate: Where the target has an element.
    """
    sums: list[RunSums] = []
    for name, (dtype, runs, bits) in sketch.values.items():
        done = 0
        for start, count in runs:
            source = widen(bits[done : done + count], dtype).astype(np.float64)
            done += count
            location = locate(name, start)
            info = None if location is None else tensors.get(location[0])
            if location is None or info is None or not info.dtype.is_float:
                continue
            if not count or location[1] + count > info.count:
                continue
            target = widen(read_bits(info.name, location[1], count), info.dtype)
            sums.append(_sums(name, source, target.astype(np.float64)))
    return tuple(sums)


def _sums(name: str, source: NDArray[np.float64], target: NDArray[np.float64]) -> RunSums:
    change = target - source
    return RunSums(
        name=name,
        count=source.size,
        source=float(np.dot(source, source)),
        target=float(np.dot(target, target)),
        cross=float(np.dot(source, change)),
        difference=float(np.dot(change, change)),
        agree=int(np.count_nonzero(np.sign(source) == np.sign(target))),
    )
