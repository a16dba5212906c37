"""Update magnitudes per channel of each weight matrix: signals for quantizers.

QuantLRM (Zhang et al. 2026, arXiv 2602.02581; github.com/psunlpgroup/QuantLRM,
`quadratic_mapping.py` and `pre_quant.py`) protects the weights with the smallest and the largest
updates. With
x = |Δ|, x_min, x_mid and x_max the least, the median and the largest nonzero x of all matrices, and
R = 10,

    f(x) = 1 + (R − 1) ((x_mid − x) / (x_mid − x_min))²   for 0 < x ≤ x_mid
    f(x) = 1 + (R − 1) ((x − x_mid) / (x_max − x_mid))²   for x > x_mid
    f(0) = 1

and the importance of input channel j is mean_i f(x_ij) · (zeros_j + 1), zeros_j being the number of
weights of the channel that did not change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import DELTA, UNCHANGED, TensorEntry
from ftt_hub.codecs.quantized import delta_values
from ftt_hub.errors import UnsupportedError
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import require_free_file, staged_file, writing
from ftt_hub.tensors.header import build_header
from ftt_hub.tensors.order_statistics import (
    locate,
    lower_histogram,
    magnitude,
    upper_histogram,
)

RATIO = 10.0
"""R of the formula, as QuantLRM's code has it."""

_LAYER = re.compile(r"\.\d+\.")
_TRANSPOSED = frozenset(("gpt2", "openai-gpt", "imagegpt", "decision_transformer"))
"""Model types whose linear layers are stored inputs × outputs."""

Values = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Magnitudes:
    """Least, median and largest nonzero |Δ| over all matrices, and how many elements are zero."""

    least: float
    middle: float
    largest: float
    nonzero: int
    zero: int


@dataclass(frozen=True)
class ChannelReport:
    """What was exported.

    Attributes:
        path: The file.
        matrices: Weight matrices in it.
        spread: Least, median and largest |Δ|.
        exact: Whether Δ is lossless, so that its zeros are weights that did not change.
    """

    path: Path
    matrices: int
    spread: Magnitudes
    exact: bool


def _matrices(adapter: Adapter) -> list[TensorEntry]:
    """2-D tensors inside numbered layers, changed or not."""
    return [
        e
        for e in adapter.container.entries.values()
        if e.role in (DELTA, UNCHANGED)
        and len(e.shape) == 2
        and e.dtype.is_float
        and _LAYER.search(e.name)
    ]


def _blocks(adapter: Adapter, entry: TensorEntry) -> Iterator[tuple[int, Values]]:
    """First row and |Δ| of runs of whole rows; nothing for an unchanged tensor."""
    if entry.slot is None:
        return
    for start, block in adapter.container.decode_range(entry, 0, entry.count):
        values = np.abs(delta_values(block)).reshape(-1, entry.row_elements)
        yield start // entry.row_elements, values


def measure_spread(adapter: Adapter, entries: list[TensorEntry]) -> Magnitudes:
    """Exact order statistics in two passes: bits of positive float32 sort as integers do.

    Raises:
        UnsupportedError: No matrix changed.
    """
    high = np.zeros(1 << 16, np.int64)
    least, largest, total = np.inf, 0.0, sum(e.count for e in entries)
    for entry in entries:
        for _, values in _blocks(adapter, entry):
            flat = values[values > 0]
            if flat.size:
                high += upper_histogram(flat)
                least, largest = min(least, float(flat.min())), max(largest, float(flat.max()))
    nonzero = int(high.sum())
    if not nonzero:
        raise UnsupportedError("no weight matrix changed", where=adapter.label)
    middles = [locate(high, rank) for rank in ((nonzero - 1) // 2, nonzero // 2)]
    low = {upper: np.zeros(1 << 16, np.int64) for upper, _ in middles}
    for entry in entries:
        for _, values in _blocks(adapter, entry):
            for upper, counts in low.items():
                counts += lower_histogram(values[values > 0], upper)
    pair = [magnitude(upper, locate(low[upper], rank)[0]) for upper, rank in middles]
    middle = sum(pair) / 2
    return Magnitudes(least, middle, largest, nonzero, total - nonzero)


def both_ends(values: Values, spread: Magnitudes) -> Doubles:
    """f(x) of the formula above."""
    x = values.astype(np.float64)
    below = max(spread.middle - spread.least, 1e-30)
    above = max(spread.largest - spread.middle, 1e-30)
    distance = np.where(
        x <= spread.middle, (spread.middle - x) / below, (x - spread.middle) / above
    )
    return np.where(x == 0, 1.0, 1 + (RATIO - 1) * np.minimum(distance, 1) ** 2)


def _signals(
    adapter: Adapter, entry: TensorEntry, spread: Magnitudes, turned: bool
) -> dict[str, Doubles]:
    rows, columns = entry.shape
    sums = {key: np.zeros(columns) for key in ("abs", "f")}
    zeros = np.full(columns, rows if entry.slot is None else 0, np.float64)
    row_abs, row_f, row_zeros = np.zeros(rows), np.ones(rows), np.full(rows, float(columns))
    if entry.slot is None:
        sums["f"] += rows
    for first, values in _blocks(adapter, entry):
        part = np.s_[first : first + len(values)]
        mapped = both_ends(values, spread)
        sums["abs"] += values.sum(0, dtype=np.float64)
        sums["f"] += mapped.sum(0)
        zeros += (values == 0).sum(0)
        row_abs[part] = values.mean(1, dtype=np.float64)
        row_f[part] = mapped.mean(1)
        row_zeros[part] = (values == 0).sum(1)
    by_column = (sums["abs"] / rows, zeros, sums["f"] / rows * (zeros + 1))
    by_row = (row_abs, row_zeros, row_f * (row_zeros + 1))
    inputs, outputs = (by_row, by_column) if turned else (by_column, by_row)
    return {
        "input_mean_abs": inputs[0],
        "input_zeros": inputs[1],
        "input_importance": inputs[2],
        "output_mean_abs": outputs[0],
        "output_zeros": outputs[1],
    }


def export_channels(
    adapter: Adapter, out: Path, *, progress: Progress | None = None
) -> ChannelReport:
    """Write `NAME.input_mean_abs`, `.input_zeros`, `.input_importance`, `.output_…` of matrices.

    Means and importance are float32, counts int32; input channels are the columns of a linear
    layer's weight (the rows where a model stores them transposed). Streams over three passes.

    Raises:
        UnsupportedError: No weight matrix changed.
        OutputError: The file exists, or the disk is full.
    """
    require_free_file(out)
    watch = progress or Silent()
    entries = _matrices(adapter)
    watch.start("measuring", sum(e.count for e in entries), "weights")
    spread = measure_spread(adapter, entries)
    turned = adapter.config.source_base.config.get("model_type") in _TRANSPOSED
    tensors: dict[str, NDArray[np.generic]] = {}
    for entry in entries:
        for key, values in _signals(adapter, entry, spread, turned).items():
            kind = "<i4" if key.endswith("zeros") else "<f4"
            tensors[f"{entry.name}.{key}"] = values.astype(kind)
        watch.advance(entry.count)
    watch.finish()
    exact = adapter.config.fidelity.exact
    header = {
        n: ("I32" if t.dtype.kind == "i" else "F32", t.shape, t.nbytes) for n, t in tensors.items()
    }
    metadata = {
        "format": "ftt_hub_channels",
        "version": "1",
        "x_min": repr(spread.least),
        "x_mid": repr(spread.middle),
        "x_max": repr(spread.largest),
        "ratio": repr(RATIO),
        "exact": json.dumps(exact),
        "content_digest": adapter.config.content_digest,
    }
    with staged_file(out) as partial, writing(out), partial.open("wb") as file:
        file.write(build_header(header, metadata))
        for stored in tensors.values():
            file.write(stored.tobytes())
    return ChannelReport(out, len(entries), spread, exact)
