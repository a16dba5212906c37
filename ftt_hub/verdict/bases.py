"""The models on disk that the deeper depths read: the target, and the source base if available."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.errors import FttError, IncompatibleError
from ftt_hub.support.findings import Finding, accepted, warned
from ftt_hub.support.paths import PathLike
from ftt_hub.transfer import lineage
from ftt_hub.transfer.plan import TransferPlan
from ftt_hub.transfer.prepare import plan_for


@dataclass(frozen=True)
class Base:
    """A model on disk: a target, or the source base.

    Attributes:
        checkpoint: Its weights.
        headers: Its headers.
        plan: The adapter's plan for it.
    """

    checkpoint: Checkpoint
    headers: ModelHeaders
    plan: TransferPlan


@contextmanager
def opened_base(adapter: Adapter, model: PathLike) -> Iterator[Base]:
    """A model with the adapter's plan for it, closed at the end of the block."""
    checkpoint, headers = open_model(model)
    with checkpoint:
        yield Base(checkpoint, headers, plan_for(adapter, headers))


@contextmanager
def source_base(adapter: Adapter, named: PathLike | None) -> Iterator[tuple[Base | None, Finding]]:
    """The source base: as named, else as the manifest names it; ``None`` if it is not available.

    Raises:
        IncompatibleError: The model named is not the source base.
        FttError: The model named cannot be read.
    """
    identity = adapter.config.source_base
    recorded = identity.ref
    try:
        checkpoint, headers = open_model(recorded if named is None else named)
    except FttError as error:
        if named is not None:
            raise
        reason = f"the source base is not available ({error.what}): name it with --source-base"
        yield None, warned("source base", reason)
        return
    with checkpoint:
        base = Base(checkpoint, headers, plan_for(adapter, headers))
        comparison = lineage.compare(
            adapter.headers, base.plan, checkpoint.tensors, checkpoint.read_bits
        )
        if comparison.runs is None or comparison.is_identical:
            yield base, accepted("source base", f"{headers.label} is available")
            return
        if named is not None:
            raise IncompatibleError(
                "is not the source base of the adapter",
                where=headers.label,
                expected=recorded,
                found=comparison.finding.reason,
            )
        reason = f"{headers.label} is another model than the source base was"
        yield None, warned("source base", f"{reason}: name it with --source-base")
