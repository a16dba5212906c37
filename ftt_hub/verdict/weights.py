"""Exact distances between Δ, the target and the source base, streamed a block at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.support.parallel import map_unordered
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import DType
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import widen
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, ReadBits
from ftt_hub.transfer.plan import TensorPlan, TransferPlan
from ftt_hub.verdict.spectrum import Spectrum, spectrum_of

Floats = NDArray[np.float64]

SPECTRA = 12
"""Matrices whose singular values are computed, spread evenly over those that Δ changes."""
MAX_SPECTRUM_ELEMENTS = 16 << 20
"""Larger matrices are left out: 128 MB in float64, and their decomposition takes minutes."""
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|block)\.(\d+)\.")


@dataclass
class Sums:
    """Sums over elements of one tensor or of several, in float64.

    Attributes:
        count: Elements compared.
        source: Σ m_s².
        target: Σ m_t².
        delta: Σ Δ².
        moved: Σ (m_t − m_s)².
        source_target: Σ m_s·m_t.
        delta_moved: Σ Δ·(m_t − m_s).
        delta_target: Σ Δ·m_t.
        other: Σ of the squares of the other adapter's Δ.
        delta_other: Σ Δ·Δ_other.
        both: Elements that both adapters change.
        conflicts: Of these, those they push in opposite directions (Yadav et al. 2023, TIES).
    """

    count: int = 0
    source: float = 0.0
    target: float = 0.0
    delta: float = 0.0
    moved: float = 0.0
    source_target: float = 0.0
    delta_moved: float = 0.0
    delta_target: float = 0.0
    other: float = 0.0
    delta_other: float = 0.0
    both: int = 0
    conflicts: int = 0

    def add(self, more: Sums) -> None:
        """Merge the sums of another part into these."""
        for name, value in asdict(more).items():
            setattr(self, name, getattr(self, name) + value)

    def figures(self, *, based: bool, compared: bool) -> dict[str, float | None]:
        """Ratios for people: distances and cosines; ``None`` where they are not known."""
        return {
            "delta_to_target": _ratio(self.delta, self.target),
            "distance": _ratio(self.moved, self.source) if based else None,
            "cosine": _cosine(self.source_target, self.source, self.target) if based else None,
            "overlap": _cosine(self.delta_moved, self.delta, self.moved) if based else None,
            "other_cosine": _cosine(self.delta_other, self.delta, self.other) if compared else None,
            "sign_conflicts": self.conflicts / self.both if compared and self.both else None,
        }


def _ratio(part: float, whole: float) -> float | None:
    return math.sqrt(part / whole) if whole > 0 else None


def _cosine(dot: float, first: float, second: float) -> float | None:
    product = math.sqrt(first) * math.sqrt(second)
    return dot / product if product > 0 else None


@dataclass(frozen=True)
class WeightsEvidence:
    """Exact figures of a transfer's weights.

    Attributes:
        total: Over all matrices; norms and biases, few and large, would hide what these do.
        tensors: Over each tensor.
        spectra: Of some matrices that Δ changes.
        based: Whether the source base was at hand.
        compared: Whether another adapter was given.
    """

    total: Sums
    tensors: Mapping[str, Sums]
    spectra: Mapping[str, Spectrum] = field(default_factory=dict)
    based: bool = False
    compared: bool = False

    @property
    def layers(self) -> dict[str, Sums]:
        """Sums by layer number; what lies outside the layers counts as ``other``."""
        found: dict[str, Sums] = {}
        for name, sums in self.tensors.items():
            match = _LAYER.search(name)
            found.setdefault(match[1] if match else "other", Sums()).add(sums)
        return dict(sorted(found.items(), key=lambda i: (not i[0].isdigit(), i[0].zfill(6))))

    @property
    def figures(self) -> dict[str, float | None]:
        """The total's ratios."""
        return self.total.figures(based=self.based, compared=self.compared)

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        options = {"based": self.based, "compared": self.compared}
        whole = sum(sums.delta for sums in self.tensors.values()) or 1.0
        return {
            "overall": self.figures,
            "tensors": {n: s.figures(**options) for n, s in self.tensors.items()},
            "layers": {
                layer: {**s.figures(**options), "share_of_delta": s.delta / whole}
                for layer, s in self.layers.items()
            },
            "spectra": {name: s.to_json() for name, s in self.spectra.items()},
        }


def values(block: DeltaBlock) -> Floats:
    """Hi + lo of a block, in float64."""
    found = widen(block.hi, block.dtype).astype(np.float64)
    return found if block.lo is None else found + widen(block.lo, block.dtype)


@dataclass(frozen=True)
class Reader:
    """Values of a model's tensors, a range at a time."""

    tensors: Mapping[str, TensorInfo]
    read_bits: ReadBits

    def values(self, name: str, start: int, count: int) -> Floats:
        """Elements [start, start + count) in float64."""
        dtype: DType = self.tensors[name].dtype
        return widen(self.read_bits(name, start, count), dtype).astype(np.float64)


@dataclass(frozen=True)
class _Job:
    plan: TensorPlan
    start: int
    count: int


class Survey:
    """One pass over a target: what Δ is against it.

    Args:
        adapter: The opened adapter.
        plan: Its plan for the target.
        target: The target's weights.
        source: The source base's, where they are at hand.
        other: Another adapter of the same source base.
    """

    def __init__(
        self,
        adapter: Adapter,
        plan: TransferPlan,
        target: Reader,
        source: Reader | None = None,
        other: Adapter | None = None,
    ) -> None:
        self._adapter, self._plan, self._target = adapter, plan, target
        self._source, self._other = source, other

    def run(self, workers: int | None = None) -> WeightsEvidence:
        """Read every tensor once; memory is some blocks whatever the model's size."""
        tensors: dict[str, Sums] = {}
        for name, sums in map_unordered(self._sums, self._jobs(), workers):
            tensors.setdefault(name, Sums()).add(sums)
        total = Sums()
        for name, sums in tensors.items():
            if len(self._plan.by_adapter_name[name].shape) >= 2:
                total.add(sums)
        return WeightsEvidence(
            total, dict(sorted(tensors.items())), self._spectra(),
            self._source is not None, self._other is not None,
        )  # fmt: skip

    def _plans(self) -> list[TensorPlan]:
        """Tensors whose rows keep their place; others cannot be compared element by element."""
        return [
            plan
            for plan in self._plan.by_adapter_name.values()
            if plan.target is not None and plan.rows is None and plan.dtype.is_float
        ]

    def _jobs(self) -> list[_Job]:
        step = BLOCK_ELEMENTS // 4
        return [
            _Job(plan, start, min(step, plan.target.count - start))
            for plan in self._plans()
            if plan.target is not None
            for start in range(0, plan.target.count, step)
        ]

    def _sums(self, job: _Job) -> tuple[str, Sums]:
        name = job.plan.name
        target = self._target.values(name, job.start, job.count)
        delta = _delta(self._adapter.container, job.plan.entry, job.start, job.count)
        sums = Sums(job.count, target=_dot(target, target))
        if delta is not None:
            sums.delta, sums.delta_target = _dot(delta, delta), _dot(delta, target)
        self._against_source(sums, job, target, delta)
        if self._other is not None:
            _against_other(sums, delta, self._others(job))
        return name, sums

    def _against_source(self, sums: Sums, job: _Job, target: Floats, delta: Floats | None) -> None:
        info = None if self._source is None else self._source.tensors.get(job.plan.name)
        if self._source is None or info is None or info.shape != job.plan.shape:
            return
        source = self._source.values(job.plan.name, job.start, job.count)
        moved = target - source
        sums.source, sums.source_target = _dot(source, source), _dot(source, target)
        sums.moved = _dot(moved, moved)
        sums.delta_moved = 0.0 if delta is None else _dot(delta, moved)

    def _others(self, job: _Job) -> Floats | None:
        container = self._other.container if self._other is not None else None
        entry = None if container is None else container.entries.get(job.plan.name)
        if container is None or entry is None or entry.slot is None:
            return None
        return None if entry.shape != job.plan.shape else _delta(
            container, entry, job.start, job.count
        )  # fmt: skip

    def _spectra(self) -> dict[str, Spectrum]:
        matrices = [
            plan
            for plan in self._plans()
            if plan.entry is not None
            and len(plan.shape) == 2
            and _LAYER.search(plan.name)
            and math.prod(plan.shape) <= MAX_SPECTRUM_ELEMENTS
        ]
        step = max(1, -(-len(matrices) // SPECTRA))
        return {plan.name: self._spectrum(plan) for plan in matrices[step // 2 :: step]}

    def _spectrum(self, plan: TensorPlan) -> Spectrum:
        count = math.prod(plan.shape)
        delta = _delta(self._adapter.container, plan.entry, 0, count)
        target = self._target.values(plan.name, 0, count).reshape(plan.shape)
        change = np.zeros(plan.shape) if delta is None else delta.reshape(plan.shape)
        return spectrum_of(target, change)


def _dot(first: Floats, second: Floats) -> float:
    return float(np.dot(first, second))


def _delta(
    container: Container, entry: TensorEntry | None, start: int, count: int
) -> Floats | None:
    """Δ of a range; ``None`` when nothing is stored."""
    if entry is None or entry.slot is None:
        return None
    found = np.zeros(count)
    for first, block in container.decode_range(entry, start, count):
        found[first - start : first - start + block.hi.size] = values(block)
    return found


def _against_other(sums: Sums, delta: Floats | None, other: Floats | None) -> None:
    if other is None:
        return
    sums.other = _dot(other, other)
    if delta is None:
        return
    sums.delta_other = _dot(delta, other)
    signs = np.sign(delta) * np.sign(other)
    sums.both, sums.conflicts = int(np.count_nonzero(signs)), int(np.count_nonzero(signs < 0))
