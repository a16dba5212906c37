"""Depth `weights`: exact distances of Δ, target and source base, streamed a block at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.findings import Finding
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.paths import PathLike
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import DType
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import widen
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, ReadBits
from ftt_hub.transfer.plan import TensorPlan, TransferPlan
from ftt_hub.transfer.prepare import anchored
from ftt_hub.verdict.bases import opened_base, source_base
from ftt_hub.verdict.weights import LAYER, Floats, Spectrum, Sums, WeightsEvidence, spectrum_of

SPECTRA = 12
"""Number of matrices whose singular values are computed, evenly spread over those Δ changes."""
MAX_SPECTRUM_ELEMENTS = 16 << 20
"""Larger matrices are left out: 128 MB in float64, and their decomposition takes minutes."""


def values(block: DeltaBlock) -> Floats:
    """Hi + lo of a block, in float64."""
    hi = widen(block.hi, block.dtype).astype(np.float64)
    return hi if block.lo is None else hi + widen(block.lo, block.dtype)


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
    """One pass over a target that compares Δ with it.

    Args:
        adapter: The opened adapter.
        plan: Its plan for the target.
        target: The target's weights.
        source: The source base's weights, if available.
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
        """Read every tensor once; memory is a few blocks, whatever the size of the model."""
        tensors: dict[str, Sums] = {}
        for name, sums in map_unordered(self._sums, self._jobs(), workers):
            tensors.setdefault(name, Sums()).add(sums)
        total = Sums()
        for name, sums in tensors.items():
            if len(self._plan.tensors[name].shape) >= 2:
                total.add(sums)
        return WeightsEvidence(
            total,
            dict(sorted(tensors.items())),
            self._spectra(),
            self._source is not None,
            self._other is not None,
        )

    def _plans(self) -> list[TensorPlan]:
        """Tensors whose rows do not move; others cannot be compared element by element."""
        return [
            plan
            for plan in self._plan.tensors.values()
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
        if entry.shape != job.plan.shape:
            return None
        return _delta(container, entry, job.start, job.count)

    def _spectra(self) -> dict[str, Spectrum]:
        matrices = [
            plan
            for plan in self._plans()
            if plan.entry is not None
            and len(plan.shape) == 2
            and LAYER.search(plan.name)
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
    delta = np.zeros(count)
    for first, block in container.decode_range(entry, start, count):
        delta[first - start : first - start + block.hi.size] = values(block)
    return delta


def _against_other(sums: Sums, delta: Floats | None, other: Floats | None) -> None:
    if other is None:
        return
    sums.other = _dot(other, other)
    if delta is None:
        return
    sums.delta_other = _dot(delta, other)
    signs = np.sign(delta) * np.sign(other)
    sums.both, sums.conflicts = int(np.count_nonzero(signs)), int(np.count_nonzero(signs < 0))


def survey_weights(
    adapter: Adapter,
    target: PathLike,
    *,
    source: PathLike | None = None,
    other: PathLike | None = None,
    registry: PathLike | None = None,
    workers: int | None = None,
) -> tuple[WeightsEvidence, list[Finding]]:
    """Exact distances, streamed; with the source base if it is available.

    Raises:
        FttError: A model or adapter cannot be read.
    """
    with (
        opened_base(adapter, target) as base,
        source_base(adapter, source) as (home, finding),
        anchored(adapter, base.checkpoint, source),
    ):
        mine = Reader(base.checkpoint.tensors, base.checkpoint.read_bits)
        theirs = None
        if home is not None:
            theirs = Reader(home.checkpoint.tensors, home.checkpoint.read_bits)
        if other is None:
            return Survey(adapter, base.plan, mine, theirs).run(workers), [finding]
        with open_adapter(other, registry=registry) as second:
            survey = Survey(adapter, base.plan, mine, theirs, second)
            return survey.run(workers), [finding]
