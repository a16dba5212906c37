"""What a recipe will do, and what it will cost, from headers alone."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ftt_hub.checkpoint.headers import ModelHeaders, refuse_quantized
from ftt_hub.checkpoint.resolve import read_headers
from ftt_hub.recycling.bases import compare
from ftt_hub.recycling.recipe import RecycleRecipe, Training
from ftt_hub.recycling.state import read_state
from ftt_hub.recycling.steps import Step, steps_of, variants_of
from ftt_hub.support.findings import CompatibilityReport

_STATE_BYTES = 16
"""Bytes per parameter in training: float32 weight, gradient and AdamW's two moments."""
_SAVED_BYTES = 12
"""Bytes per parameter in a checkpoint: all of these but the gradient."""
_CHECKPOINTS = 3
"""Two are kept while a third is written."""
_ACTIVATIONS, _RECOMPUTED = 34, 2
"""Bytes that a layer keeps per token and hidden unit in 16 bits, and with gradient checkpointing
(Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", eq. 1,
without the term of the attention matrix, which fused attention does not keep)."""


@dataclass(frozen=True)
class PlannedStep:
    """One fine-tuning to come.

    Attributes:
        name: The step.
        base: M_i.
        parent: The step whose Δ is added to it first.
        variants: Whose Δ_i it gives; none when it is only needed by another step.
        status: ``done``, ``begun`` or ``to do``.
        verdict: Result of the header check between the parent's base version and M_i.
        parameters: Number of parameters of the model.
        memory: Bytes needed for training on one device that holds all of it.
        disk: Largest number of bytes on disk while it runs, apart from the adapters.
        adapter: Largest size of its adapter in bytes.
    """

    name: str
    base: str
    parent: str | None
    variants: tuple[str, ...]
    status: str
    verdict: str | None
    parameters: int
    memory: int
    disk: int
    adapter: int


@dataclass(frozen=True)
class Plan:
    """All steps of a recipe.

    Attributes:
        out: The output folder.
        steps: In order.
        reports: Results of the checks between base versions.
        disk: Largest number of bytes still needed.
        free: Free bytes on that disk.
    """

    out: Path
    steps: tuple[PlannedStep, ...]
    reports: tuple[CompatibilityReport, ...]
    disk: int
    free: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "out": str(self.out),
            "steps": [asdict(step) for step in self.steps],
            "checks": [report.to_json() for report in self.reports],
            "disk": self.disk,
            "free": self.free,
        }


def make_plan(recipe: RecycleRecipe) -> Plan:
    """The plan of a recipe; of Hub models only headers are fetched.

    Raises:
        RefError: A base version names nothing.
        CheckpointError: It is not a readable model.
    """
    headers = [read_headers(base) for base in recipe.bases]
    for header in headers:
        refuse_quantized(header)
    state = read_state(recipe.out)
    steps = steps_of(recipe.variants, len(headers))
    reports: dict[tuple[int, int], CompatibilityReport] = {}
    planned = []
    for step in steps:
        report = None
        if step.parent is not None:
            pair = (step.parent.version, step.version)
            if pair not in reports:
                reports[pair] = compare(*(headers[number - 1] for number in pair))
            report = reports[pair]
        begun = "begun" if step.name in state.steps else "to do"
        status = "done" if state.result(step.name) is not None else begun
        planned.append(_planned(step, headers[step.version - 1], recipe, status, report))
    todo = [step for step in planned if step.status != "done"]
    kept = sum(step.adapter * (2 if recipe.keep_models else 1) for step in todo)
    disk = kept + max((step.disk for step in todo), default=0)
    return Plan(recipe.out, tuple(planned), tuple(reports.values()), disk, _free(recipe.out))


def limits(plan: Plan, recipe: RecycleRecipe) -> list[str]:
    """What a user should know before the run: too little disk, sequences that will be cut."""
    notes = []
    if plan.disk > plan.free:
        needed, free = plan.disk / 1e9, plan.free / 1e9
        notes.append(f"note: up to {needed:.1f} GB may be needed, {free:.1f} GB are free")
    header = read_headers(recipe.bases[0])
    length = fitted(recipe.training, header).sequence_length
    if length < recipe.training.sequence_length:
        notes.append(f"note: {header.label} takes {length} tokens; sequences are cut there")
    return notes


def fitted(training: Training, headers: ModelHeaders) -> Training:
    """The training with sequences no longer than the model's positions."""
    limit = positions(headers)
    if limit is None or limit >= training.sequence_length:
        return training
    return replace(training, sequence_length=limit)


def positions(headers: ModelHeaders) -> int | None:
    """Most tokens that a model takes, if its config says so."""
    limit = headers.config.get("max_position_embeddings")
    return limit if isinstance(limit, int) else None


def _planned(
    step: Step,
    headers: ModelHeaders,
    recipe: RecycleRecipe,
    status: str,
    report: CompatibilityReport | None,
) -> PlannedStep:
    count = sum(info.count for info in headers.tensors.values())
    models = 1 if step.parent is None else 2
    return PlannedStep(
        step.name,
        headers.label,
        None if step.parent is None else step.parent.name,
        variants_of(step, recipe.variants),
        status,
        None if report is None else report.verdict,
        count,
        _STATE_BYTES * count + activations(headers, fitted(recipe.training, headers)),
        _SAVED_BYTES * _CHECKPOINTS * count + models * headers.nbytes,
        headers.nbytes,
    )


def activations(headers: ModelHeaders, training: Training) -> int:
    """Bytes of activations of one forward pass on one device, roughly."""
    layers, hidden = (
        value if isinstance(value := headers.config.get(key), int) else 0
        for key in ("num_hidden_layers", "hidden_size")
    )
    rows = training.per_device_batch_size or training.batch_size
    width = 4 if training.precision == "float32" else 2
    kept = _RECOMPUTED if training.gradient_checkpointing else _ACTIVATIONS
    return layers * hidden * rows * training.sequence_length * kept * width // 2


def _free(out: Path) -> int:
    """Free bytes where a folder lies or will lie."""
    folder = out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free
