"""Matching an adapter with a model in memory: the same checks as for a checkpoint, then steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import ADDED, ALIAS
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.resolve import read_headers
from ftt_hub.errors import FttError, IncompatibleError, UnsupportedError
from ftt_hub.support.findings import CompatibilityReport, Status, warned
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer import findings, lineage
from ftt_hub.transfer.assemble import Assembler
from ftt_hub.transfer.live.names import Group, map_names
from ftt_hub.transfer.live.places import Place, place_of
from ftt_hub.transfer.live.sampled import SampledWeights
from ftt_hub.transfer.live.shards import reshard, together
from ftt_hub.transfer.live.steps import ReplaceStep, Step, SumStep, fused_pieces, tensor_pieces
from ftt_hub.transfer.plan import TensorPlan, TransferPlan
from ftt_hub.transfer.prepare import plan_for, refuse_impossible

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Match:
    """An adapter matched with a model.

    Attributes:
        steps: What it does to each parameter.
        report: What was found.
        vocabulary_size: Rows of the result's embeddings where they change, else ``None``.
    """

    steps: tuple[Step, ...]
    report: CompatibilityReport
    vocabulary_size: int | None


def _small_files(model: PreTrainedModel, tokenizer: str | Path | None) -> Any:
    """Reads the model's tokenizer files, from where the user or the model itself says they are."""
    named = tokenizer if tokenizer is not None else getattr(model, "name_or_path", "") or None
    if named is None:
        return lambda name: None
    if Path(named).is_dir():

        def small_file(name: str) -> bytes | None:
            path = Path(named) / name
            return path.read_bytes() if path.is_file() else None

        return small_file
    try:
        return read_headers(named).small_file
    except FttError:
        if tokenizer is not None:
            raise
        return lambda name: None  # the model was built from nothing that can be found


def _comparable(live: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """A live config in the words of the source base's `config.json`.

    A config object spells out every default and writes rope settings in one place; only what the
    file says can be compared with it.
    """
    always = ("model_type", "vocab_size", "tie_word_embeddings", "quantization_config")
    found = {key: live[key] for key in always if key in live}
    rope = live.get("rope_parameters") or {}
    for key, value in source.items():
        held = live.get(key, rope.get(key, value))
        nested = isinstance(held, dict) and isinstance(value, dict)
        found[key] = _comparable(held, value) if nested else held
    return found


class Matcher:
    """Matches one adapter with one model.

    Args:
        adapter: The opened adapter.
        model: A transformers model whose weights are in memory.
        tokenizer: Folder or reference of the model's tokenizer, for adapters whose vocabulary
            differs; default where the model was loaded from.
    """

    def __init__(
        self, adapter: Adapter, model: PreTrainedModel, tokenizer: str | Path | None
    ) -> None:
        reshard(model)
        self._adapter, self._model = adapter, model
        self._entries = adapter.container.entries
        self._tensors: dict[str, torch.Tensor] = {}
        self._tensors.update(model.named_parameters(remove_duplicate=False))
        self._tensors.update(model.named_buffers(remove_duplicate=False))
        self._map = map_names(model, self._entries)
        self._places: dict[str, Place] = {}
        self._small_file = _small_files(model, tokenizer)

    def match(self, *, force: bool) -> Match:
        """Check everything that can be checked, then make the steps.

        Raises:
            IncompatibleError: The adapter does not fit.
            UnsupportedError: The model's weights are quantized or elsewhere.
        """
        groups = [group for group in self._map.groups if self._touches(group)]
        made = {}
        for group in groups:
            empty = {n: torch.empty(self._entries[n].shape, device="meta") for n in group.names}
            made[group.key] = {
                n: tuple(t.shape) for n, t in group.convert(self._model, empty).items()
            }
            for name in made[group.key]:
                self._places[name] = place_of(name, self._tensors[name])
        headers = self._headers(groups, made)
        plan = plan_for(self._adapter.headers, headers)
        report = self._report(plan, headers)
        with together(place.tensor for place in self._places.values()):
            if report.status is Status.REJECTED and force:
                refuse_impossible(report, plan)
            else:
                report.raise_if_incompatible()
        steps = tuple(self._steps(groups, made, plan))
        size = plan.vocabulary_size if any(isinstance(s, ReplaceStep) for s in steps) else None
        return Match(steps, report, size)

    def _touches(self, group: Group) -> bool:
        entries = (self._entries[name] for name in group.names)
        return any(entry.slot is not None or entry.role == ALIAS for entry in entries)

    def _headers(
        self, groups: Iterable[Group], made: dict[str, dict[str, tuple[int, ...]]]
    ) -> ModelHeaders:
        """The model as if it were a checkpoint, under the adapter's names."""
        infos = {}
        for group in self._map.groups:
            for name in group.names:
                entry = self._entries[name]
                tensor = self._tensors[group.key]
                place = self._places.get(group.key)
                dtype = entry.dtype if place is None else place.dtype
                shape = entry.shape if group.converter is not None else tuple(tensor.shape)
                if entry.role != ADDED:
                    infos[name] = TensorInfo(name, dtype, shape, 0, entry.count * dtype.itemsize)
        for group in groups:
            for name, shape in made[group.key].items():
                if group.converter is not None and self._places[name].shape != shape:
                    raise IncompatibleError(
                        "the model's fused weights have another shape",
                        where=name,
                        expected=shape,
                        found=self._places[name].shape,
                        hint="Choose another target.",
                    )
        for name in self._outside(self._map.missing):
            entry = self._entries[name]
            infos[name] = TensorInfo(name, entry.dtype, entry.shape, 0, 0)
        config = _comparable(self._model.config.to_dict(), self._adapter.config.source_base.config)
        label = getattr(self._model, "name_or_path", "") or type(self._model).__name__
        return ModelHeaders(label, None, config, dict(sorted(infos.items())), self._small_file)

    def _outside(self, names: Iterable[str]) -> list[str]:
        """Tensors of a head that this class of model does not have."""
        prefix = f"{self._model.base_model_prefix}."
        is_base = self._model.base_model is self._model
        return [n for n in names if is_base and prefix != "." and not n.startswith(prefix)]

    def _report(self, plan: TransferPlan, headers: ModelHeaders) -> CompatibilityReport:
        comparison = self._comparison(plan)
        found = findings.find(findings.Transfer(self._adapter.headers, headers, plan, comparison))
        outside = self._outside(self._map.missing)
        if outside:
            reason = f"{type(self._model).__name__} has no such head: {', '.join(outside[:3])}"
            found = (*found, warned("tensors", reason))
        return CompatibilityReport(self._adapter.label, headers.label, "sketch", found)

    def _comparison(self, plan: TransferPlan) -> lineage.Comparison:
        """Compare the sketch with the weights that this process has."""
        sample = lineage.sketch_of(self._adapter.headers)
        if sample is None:
            return lineage.Comparison(None, None)
        runs = {name: runs for name, (_, runs, _) in sample.values.items()}
        shapes = {name: entry.shape for name, entry in self._entries.items()}
        weights = SampledWeights(self._model, self._tensors, self._map.groups, shapes, runs)
        return lineage.compare(
            self._adapter.headers, plan, weights.tensors, weights.read_bits, weights.holds
        )

    def _steps(
        self,
        groups: Iterable[Group],
        made: dict[str, dict[str, tuple[int, ...]]],
        plan: TransferPlan,
    ) -> Iterable[Step]:
        """One step a parameter; tied parameters are one."""
        seen: set[int] = set()
        for group in groups:
            for name in made[group.key]:
                place = self._places[name]
                if id(place.tensor) in seen:
                    continue
                step = self._step(group, place, plan)
                if step is not None:
                    seen.add(id(place.tensor))
                    yield step

    def _step(self, group: Group, place: Place, plan: TransferPlan) -> Step | None:
        container = self._adapter.container
        if group.converter is not None:
            return SumStep(place, fused_pieces(container, group, self._entries, place, self._model))
        tensor_plan = plan.tensors[group.names[0]]
        entry = tensor_plan.entry
        if entry is None and tensor_plan.rows is None:
            return None
        if entry is not None and tensor_plan.rows is None and tensor_plan.target is not None:
            return SumStep(place, tensor_pieces(container, entry, place))
        make = _maker(self._adapter, tensor_plan, place)
        return ReplaceStep(place, make, place.shape, tensor_plan.shape)


def _maker(adapter: Adapter, plan: TensorPlan, place: Place) -> Callable[[Bits, float], Bits]:
    """Makes the part of a replaced parameter that this process holds, of the rows it had.

    Rows come from anywhere in the target, so that a distributed parameter is gathered for a moment;
    of Δ only the blocks with this process's rows are decoded.
    """
    window = place.window(plan.shape)
    if window is None:
        raise UnsupportedError(
            "rows of the vocabulary cannot move on a parameter with interleaved shards",
            where=place.name,
            hint="Load it with ftt_hub.AutoTransferModel…(adapter, base_model=…, tp_plan=…).",
        )
    rows, rest = (window[0], window[1:]) if window else (slice(0, 1), ())
    gather = place.gatherer()
    width = plan.row_elements

    def make(bits: Bits, scale: float) -> Bits:
        whole = gather(bits) if plan.target is not None else bits

        def read(name: str, start: int, count: int) -> Bits:
            return whole[start : start + count].copy()

        count = (rows.stop - rows.start) * width
        made = Assembler(read, adapter.container, scale).bits(plan, rows.start * width, count)
        return np.ascontiguousarray(made.reshape(-1, *plan.shape[1:])[:, *rest]).reshape(-1)

    return make
