"""Do the inputs fit together? Names, roles, shapes and vocabularies, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ftt_hub.artifact.index import (
    ADDED,
    ALIAS,
    DELTA,
    DROPPED,
    RESIZED,
    UNCHANGED,
    Block,
    TensorEntry,
)
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.combining.inputs import Agreement, CombinedTensor, Input
from ftt_hub.errors import IncompatibleError
from ftt_hub.tensors.dtypes import DType, wider
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, whole_rows

_USUAL_WEIGHT = 5.0


def agree(inputs: Sequence[Input], *, different_bases: bool, dtype: DType | None) -> Agreement:
    """Match the inputs' tensors.

    Args:
        inputs: The opened adapters.
        different_bases: Whether they may come from different source bases.
        dtype: Dtype of the combined Δ; default the widest of the inputs.

    Raises:
        IncompatibleError: They come from different source bases, or changed the set of tensors or
            the vocabulary in ways that contradict each other.
    """
    notes = _check_bases(inputs, different_bases)
    vocabulary = _check_vocabulary(inputs)
    names = sorted({name for i in inputs for name in i.adapter.container.entries})
    tensors = {}
    for name in names:
        combined = _combined(name, inputs, dtype)
        if combined is not None:
            tensors[name] = combined
    return Agreement(
        tuple(inputs), tensors, vocabulary, (*notes, *_missing(inputs, tensors), *_heavy(inputs))
    )


def _check_bases(inputs: Sequence[Input], allowed: bool) -> list[str]:
    first = inputs[0]
    first_base = first.adapter.config.source_base
    notes = []
    for other in inputs[1:]:
        other_base = other.adapter.config.source_base
        if first_base.digest == other_base.digest:
            continue
        kinds = (first_base.config.get("model_type"), other_base.config.get("model_type"))
        if kinds[0] != kinds[1]:
            raise IncompatibleError(
                "the adapters are for different architectures",
                where=other.label,
                expected=kinds[0],
                found=kinds[1],
            )
        if not allowed:
            raise IncompatibleError(
                "the adapters come from different source bases",
                where=other.label,
                expected=f"{_base(first)} as {first.label}",
                found=_base(other),
                hint="Set allow_different_bases: true if the two are close relatives, such as "
                "successive versions of one model: a Δ then still means the same on either.",
            )
        notes.append(
            f"{other.label} comes from {_base(other)}, {first.label} from {_base(first)}: the sum "
            "works as far as the two bases, and the target, are close relatives"
        )
    return notes


def _base(item: Input) -> str:
    source = item.adapter.config.source_base
    return f"{source.id} ({source.digest[7:15]})"


def _changed_vocabulary(config: AdapterConfig) -> bool:
    words = config.vocabulary
    renamed = words is not None and (words.size != words.source_size or bool(words.renamed))
    return renamed or bool(config.tensors.resized)


def _check_vocabulary(inputs: Sequence[Input]) -> Input:
    """The input whose tokenizer the result has: the one that changed it, else the first."""
    changed = [i for i in inputs if _changed_vocabulary(i.adapter.config)]
    for other in changed[1:]:
        first, second = (i.adapter.config.vocabulary for i in (changed[0], other))
        if first is None or second is None or first.digest != second.digest:
            raise IncompatibleError(
                "two adapters changed the vocabulary in different ways, or do not name its tokens",
                where=other.label,
                expected=f"{first.size if first else 'unknown'} tokens as in {changed[0].label}",
                found=f"{second.size if second else 'unknown'} tokens",
                hint="Rows of one id would stand for different tokens; combine adapters that "
                "added the same tokens.",
            )
    return changed[0] if changed else inputs[0]


def _conflict(what: str, name: str, first: Input, other: Input) -> IncompatibleError:
    return IncompatibleError(
        what,
        where=name,
        found=f"{first.label} and {other.label}",
        hint="Leave one of the two out, or give it a range of layers without this tensor.",
    )


def _combined(name: str, inputs: Sequence[Input], dtype: DType | None) -> CombinedTensor | None:
    """One tensor of the result; ``None`` when nothing of it is left."""
    entries = [(i, e) for i in inputs if (e := i.entry(name)) is not None]
    alive = [(i, e) for i, e in entries if e.role != DROPPED]
    if not alive:
        return CombinedTensor(entries[0][1])
    aliases = [(i, e) for i, e in alive if e.role == ALIAS]
    stored = [(i, e) for i, e in alive if e.slot is not None]
    if aliases and stored:
        what = "tied to another tensor in one adapter, separate in the other"
        raise _conflict(what, name, aliases[0][0], stored[0][0])
    if not stored:
        first = alive[0][1]
        return CombinedTensor(replace(first, fine_tuned=None) if aliases else first)
    shape_of = _largest(name, alive)
    chosen = stored[0][1].weight_dtype if dtype is None else dtype
    if dtype is None:
        for _, entry in stored:
            chosen = wider(chosen, entry.weight_dtype)
    source = next((e.source for _, e in alive if e.source is not None), None)
    entry = replace(
        shape_of,
        dtype=chosen,
        source=source,
        fine_tuned=None,
        slot=1,
        codec=None,
        error=None,
        blocks=tuple(Block(0, 0, n, "") for _, n in whole_rows(shape_of.shape, BLOCK_ELEMENTS)),
        norm=next((e.norm for _, e in stored if e.norm is not None), None),
    )
    return _taking_part(name, entry, inputs, stored)


def _taking_part(
    name: str,
    entry: TensorEntry,
    inputs: Sequence[Input],
    stored: Sequence[tuple[Input, TensorEntry]],
) -> CombinedTensor | None:
    weights = {i: w for i in inputs if (w := i.ingredient.weight_of(name))}
    having = {i for i, e in stored if e.shape == entry.shape}
    givers = {i: w for i, w in weights.items() if w > 0 and i in having}
    if entry.role == ADDED and not givers:
        return None
    if entry.role == RESIZED and not givers:
        givers = {
            i: 1.0 for i in inputs if i in having
        }  # the result has these tokens, so it needs their rows
    if entry.role == DELTA and not any(i in weights for i, _ in stored):
        plain = replace(entry, slot=None, blocks=(), norm=None, role=UNCHANGED)
        return CombinedTensor(replace(plain, fine_tuned=entry.source))
    return CombinedTensor(
        entry, tuple(weights), tuple(weights.values()), tuple(givers), tuple(givers.values())
    )


def _largest(name: str, alive: Sequence[tuple[Input, TensorEntry]]) -> TensorEntry:
    """The entry with the shape of the result: the one with added rows, if any.

    Raises:
        IncompatibleError: The shapes contradict each other.
    """
    first, largest = alive[0]
    for item, entry in alive:
        rank = (DELTA, RESIZED, ADDED)
        if entry.role in rank and (
            largest.role not in rank or rank.index(entry.role) > rank.index(largest.role)
        ):
            first, largest = item, entry
    for item, entry in alive:
        grown = largest.role == RESIZED and entry.role in (DELTA, UNCHANGED)
        shape = largest.shape
        if grown and largest.source_rows is not None:
            shape = (largest.source_rows, *shape[1:])
        added_here = ADDED in (entry.role, largest.role) and entry.role != largest.role
        if entry.shape != shape or added_here:
            raise _conflict(
                f"the adapters have other shapes of it, {list(largest.shape)} and "
                f"{list(entry.shape)}",
                name,
                first,
                item,
            )
    return largest


def _missing(inputs: Sequence[Input], tensors: Mapping[str, CombinedTensor]) -> list[str]:
    notes = []
    stored = {name for name, combined in tensors.items() if combined.entry.slot is not None}
    for item in inputs:
        lacking = sorted(
            n for n in stored if item.entry(n) is None and item.ingredient.weight_of(n)
        )
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            notes.append(
                f"{item.label} knows nothing of {len(lacking)} tensors, which count as unchanged "
                f"there: {', '.join(lacking[:3])}{more}"
            )
    return notes


def _heavy(inputs: Sequence[Input]) -> list[str]:
    total = sum(abs(i.ingredient.weight) for i in inputs)
    if total <= _USUAL_WEIGHT or len(inputs) > _USUAL_WEIGHT:
        return []
    return [f"the weights add up to {total:g}; above {_USUAL_WEIGHT} models mostly break"]
