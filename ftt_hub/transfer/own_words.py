"""A target whose names are not the adapter's: matched under these, written under its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ftt_hub.artifact.adapter import AdapterHeaders
from ftt_hub.artifact.index import ADDED, ALIAS, TensorEntry
from ftt_hub.checkpoint.arrangement import Arrangement
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.spelling import Respelling, Stored, alike, is_known, respell
from ftt_hub.checkpoint.view import infos_of, stored
from ftt_hub.errors import UnsupportedError
from ftt_hub.support.findings import Finding, accepted, warned
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.plan import DeltaPart, TensorPlan, TransferPlan


def source_of(adapter: AdapterHeaders) -> Stored:
    """What the source base of an adapter stores, by its manifest and index."""
    shapes = {
        entry.name: _source_shape(entry)
        for entry in adapter.entries.values()
        if entry.source is not None or entry.role not in (ADDED, ALIAS)
    }
    return Stored(adapter.label, adapter.config.source_base.config, shapes)


def _source_shape(entry: TensorEntry) -> tuple[int, ...]:
    if entry.source_rows is None:
        return entry.shape
    return (entry.source_rows, *entry.shape[1:])


def named_by(adapter: AdapterHeaders, target: ModelHeaders) -> ModelHeaders:
    """A target's headers under the adapter's names; as they are where these agree.

    Raises:
        UnsupportedError: The two cannot be matched.
    """
    respelling = respell(source_of(adapter), stored(target))
    if respelling is None:
        return target
    tensors = infos_of(respelling.tensors, target.tensors)
    return replace(target, tensors=tensors, respelling=respelling)


def spelling_finding(
    adapter: AdapterHeaders, target: ModelHeaders, named: ModelHeaders
) -> Finding | None:
    """Which spelling the two sides use; ``None`` where it is the same."""
    if named.respelling is not None:
        return accepted("names", f"the target has {named.respelling.summary}")
    source = source_of(adapter)
    if alike(source.shapes, stored(target).shapes) or is_known(source.config):
        return None
    reason = "transformers does not know this architecture: tensors are matched by name alone"
    return warned("names", reason)


def in_own_words(
    plan: TransferPlan, target: ModelHeaders, respelling: Respelling | None
) -> TransferPlan:
    """A plan made under the adapter's names, for a result under the target's own.

    Raises:
        UnsupportedError: Rows move in a tensor that the target stores in another layout.
    """
    if respelling is None:
        return plan
    tensors = dict(_rewritten(plan, target.tensors, respelling))
    return replace(
        plan, tensors=dict(sorted(tensors.items())), respelling=respelling, matched=plan.tensors
    )


def _rewritten(
    plan: TransferPlan, own: Mapping[str, TensorInfo], respelling: Respelling
) -> Iterator[tuple[str, TensorPlan]]:
    """The target's own tensors, then those that only the result has."""
    for name, info in own.items():
        other = respelling.renamed(name)
        if other is not None and other in plan.tensors:
            yield name, replace(plan.tensors[other], name=name, target=info)
        else:
            made = respelling.own.get(name, Arrangement(info.shape, ()))
            parts = tuple(_parts(plan, made))
            yield name, TensorPlan(name, info.dtype, info.shape, info, None, parts=parts)
    originals = {respelling.renamed(name): info for name, info in own.items()}
    for name, planned in plan.tensors.items():
        if planned.target is None:
            yield name, planned
        elif planned.target.name != name:  # a head that the result no longer ties
            yield name, replace(planned, target=originals[planned.target.name])


def _parts(plan: TransferPlan, made: Arrangement) -> Iterator[DeltaPart]:
    for piece in made.pieces:
        planned = plan.tensors.get(piece.name)
        if planned is None:
            continue
        if planned.rows is not None:
            raise UnsupportedError(
                "rows of the vocabulary cannot move in a tensor that is stored in another layout",
                where=piece.name,
                hint="Load the target with transformers and save it again, then use that copy.",
            )
        if planned.entry is not None:
            yield DeltaPart(planned.entry, piece)
