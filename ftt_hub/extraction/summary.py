"""Figures of a finished extraction: digests, counts, fidelity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ftt_hub.artifact.index import ADDED, DROPPED, RESIZED, UNCHANGED, TensorEntry, model_digest
from ftt_hub.artifact.manifest import Fidelity, TensorSummary
from ftt_hub.artifact.reader import container_files
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.extraction.encoding import TensorResult, rounded
from ftt_hub.tensors.delta import DeltaStatistics

_MAX_LISTED = 64


def digest(entries: Iterable[TensorEntry], side: str) -> str:
    """Digest over all tensors of one model; `side` is ``source`` or ``fine_tuned``."""
    raws = {}
    for entry in entries:
        raw = entry.source if side == "source" else entry.fine_tuned
        shape = entry.shape
        if side == "source" and entry.source_rows is not None:
            shape = (entry.source_rows, *entry.shape[1:])
        if raw is not None:
            raws[entry.name] = (raw, shape)
    return model_digest(raws)


def summary(entries: Sequence[TensorEntry]) -> TensorSummary:
    """Counts and names of what fine-tuning did to the set of tensors."""

    def names(role: str) -> list[str]:
        return [e.name for e in entries if e.role == role][:_MAX_LISTED]

    return TensorSummary(
        changed=sum(e.slot is not None for e in entries),
        unchanged=sum(e.role == UNCHANGED for e in entries),
        added=names(ADDED),
        dropped=names(DROPPED),
        resized=names(RESIZED),
    )


def _ratio(square: float, other: float) -> float:
    return math.sqrt(square / other) if other else 0.0


def fidelity(folder: Path, results: Sequence[TensorResult], tuned: ModelHeaders) -> Fidelity:
    """How faithful and how small the container in `folder` is."""
    return figures(
        folder,
        results,
        exact=all(result.entry.error is None for result in results),
        parameters=sum(info.count for info in tuned.tensors.values()),
        nbytes=tuned.nbytes,
    )


def figures(
    folder: Path, results: Sequence[TensorResult], *, exact: bool, parameters: int, nbytes: int
) -> Fidelity:
    """Fidelity from what was measured while the tensors were encoded.

    Args:
        folder: Has the container.
        results: Of the tensors, in the order in which their squares are added up.
        exact: Whether the fine-tuned model comes back bit for bit.
        parameters: Of the fine-tuned model.
        nbytes: Of the fine-tuned model.
    """
    total = DeltaStatistics()
    for result in results:
        total.add(result.statistics)
    bits = 8 * sum(result.entry.nbytes for result in results)
    stored = sum(path.stat().st_size for path in container_files(folder))
    return Fidelity(
        exact=exact,
        relative_error=rounded(_ratio(total.error_square, total.delta_square)),
        noise=rounded(_ratio(total.error_square, total.source_square)),
        relative_norm=rounded(_ratio(total.delta_square, total.source_square)),
        parameters=parameters,
        changed_parameters=total.changed,
        bits_per_weight=rounded(bits / max(1, parameters)),
        ratio=rounded(stored / max(1, nbytes)),
    )
