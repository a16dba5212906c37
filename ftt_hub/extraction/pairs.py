"""Which tensors of two checkpoints belong together, and what became of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.artifact.index import ADDED, ALIAS, DELTA, DROPPED, RESIZED, token_axis
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.vocabulary import Tokens
from ftt_hub.errors import ExtractionError, UnsupportedError
from ftt_hub.extraction.identity import PairFacts, owner
from ftt_hub.tensors.dtypes import DType, wider
from ftt_hub.tensors.header import TensorInfo

Same = Callable[[str, str], bool]
"""Whether two tensors of one model have the same bytes."""

Mask = Callable[[str], bool]

Shape = tuple[int, ...]

BUFFER = "buffer"
"""Role of a pair that no training changes; the index records it as unchanged."""


@dataclass(frozen=True)
class Pair:
    """One tensor of the source base, of the fine-tuned model, or of both.

    Attributes:
        name: Checkpoint name.
        role: As in the index; ``delta`` for anything both have in the same shape; ``buffer`` for
            what no training changes.
        source: The source base's tensor; of another name where the source base ties this one to it.
        tuned: The fine-tuned model's tensor, likewise.
        of: For an alias, the tensor it is tied to; for a delta, the tensor that stands for it in
            the source base, where that has none of this name.
    """

    name: str
    role: str
    source: TensorInfo | None
    tuned: TensorInfo | None
    of: str | None = None

    @property
    def either(self) -> TensorInfo:
        """The fine-tuned model's tensor, else the source base's."""
        info = self.tuned or self.source
        if info is None:
            raise ExtractionError("a pair without tensors", where=self.name)
        return info

    @property
    def dtype(self) -> DType:
        """Dtype of the delta: the wider of the two."""
        if self.source is None or self.tuned is None:
            return self.either.dtype
        if not (self.source.dtype.is_float and self.tuned.dtype.is_float):
            return self.tuned.dtype
        return wider(self.source.dtype, self.tuned.dtype)

    @property
    def has_frames(self) -> bool:
        """Whether a change of it is stored, and not only what became of it."""
        return self.tuned is not None and self.role not in (ALIAS, BUFFER) and self.dtype.is_float

    @property
    def stores_source(self) -> bool:
        """Whether the source base has a tensor of this very name."""
        return self.source is not None and self.source.name == self.name

    @property
    def stores_tuned(self) -> bool:
        """Whether the fine-tuned model has a tensor of this very name."""
        return self.tuned is not None and self.tuned.name == self.name

    @property
    def shared_tokens(self) -> int | None:
        """For a resized tensor, the tokens that both models have."""
        if self.role != RESIZED or self.source is None:
            return None
        axis = token_axis(self.either.shape)
        return min(self.source.shape[axis], self.either.shape[axis])

    @property
    def nbytes(self) -> int:
        """Bytes to be read."""
        return sum(info.nbytes for info in (self.source, self.tuned) if info is not None)


def _check_dtypes(source: TensorInfo, tuned: TensorInfo) -> None:
    both = (source.dtype, tuned.dtype)
    if all(d.is_float for d in both) or source.dtype == tuned.dtype:
        return
    if any(d.name.startswith(("F", "C")) and not d.is_float for d in both):
        raise UnsupportedError(
            f"no delta can be made between {source.dtype.name} and {tuned.dtype.name}",
            where=tuned.name,
            expected="BF16, F16 or F32 on both sides",
            hint="Convert both models to one of these first.",
        )
    raise ExtractionError(
        "the dtype changed between float and integer",
        where=tuned.name,
        expected=source.dtype.name,
        found=tuned.dtype.name,
    )


def _both(name: str, source: TensorInfo, tuned: TensorInfo, facts: PairFacts) -> Pair:
    """A tensor that both models have, be it under another name that it is tied to."""
    _check_dtypes(source, tuned)
    of = source.name if source.name != name else None
    if source.shape == tuned.shape:
        return Pair(name, DELTA, source, tuned, of)
    axis = facts.both.vocabulary.get(name)
    if axis is not None and _grew_by_tokens(source.shape, tuned.shape, axis):
        return Pair(name, RESIZED, source, tuned, of)
    if _has_other_classes(source.shape, tuned.shape, facts.classes):
        return _only_tuned(tuned)
    raise ExtractionError(
        "the shape changed, and neither by added tokens nor by another number of classes",
        where=name,
        expected=list(source.shape),
        found=list(tuned.shape),
        hint="Is this the base the model was fine-tuned from?",
    )


def _grew_by_tokens(first: Shape, second: Shape, axis: int) -> bool:
    """Whether only the number of tokens differs, and every token is one run of elements."""
    same = first[:axis] == second[:axis] == (1,) * axis and first[axis + 1 :] == second[axis + 1 :]
    return same and len(first) == len(second) > axis


def _has_other_classes(source: Shape, tuned: Shape, classes: tuple[int, int]) -> bool:
    """Whether two shapes differ as the numbers of classes of the two models do.

    Such a head is a new one: there is no difference between the two, and the fine-tuned values are
    what a result needs.
    """
    before, after = classes
    if before == after or len(source) != len(tuned):
        return False
    return all(a == b or a * after == b * before for a, b in zip(source, tuned, strict=True))


def _only_tuned(info: TensorInfo) -> Pair:
    if not info.dtype.is_float:
        raise ExtractionError(
            f"fine-tuning added an integer tensor ({info.dtype.name})",
            where=info.name,
            expected="float tensors, or integer tensors that both models have",
            hint="Remove it from the fine-tuned checkpoint if it is a buffer.",
        )
    return Pair(info.name, ADDED, None, info)


@dataclass(frozen=True)
class Side:
    """One of the two models, for pairing.

    Attributes:
        model: Its headers.
        facts: What its tensors are.
        same: Whether two of its tensors have the same bytes.
    """

    model: ModelHeaders
    facts: TensorFacts
    same: Same
    _known: dict[str, str | None] = field(default_factory=dict)

    def value(self, name: str) -> str | None:
        """The stored tensor that stands for a name; one for all copies that are equal."""
        if name not in self._known:
            self._known[name] = self._value(name)
        return self._known[name]

    def _value(self, name: str) -> str | None:
        stored = owner(name, self.facts, self.model.tensors)
        if stored is None:
            return None
        tied = self.facts.tied
        group = self.facts.group(stored)
        if stored not in tied and not (stored == group[0] and tied & set(group)):
            return stored
        first = next(n for n in group if n in self.model.tensors)
        return first if first == stored or self._equal(first, stored) else stored

    def _equal(self, first: str, second: str) -> bool:
        one, other = self.model.tensors[first], self.model.tensors[second]
        return one.shape == other.shape and one.dtype == other.dtype and self.same(first, second)


class _Pairing:
    """Pairs the tensors of two models, a tied group at a time."""

    def __init__(self, source: Side, tuned: Side, facts: PairFacts, is_mask: Mask) -> None:
        self._source, self._tuned, self._facts, self._is_mask = source, tuned, facts, is_mask
        self._seen: dict[tuple[str, str], str] = {}

    def pair(self, name: str) -> Pair:
        """The pair of one name that a model stores."""
        ours = self._source.model.tensors.get(name)
        theirs = self._tuned.model.tensors.get(name)
        if self._facts.is_untrained(name, ours, theirs):
            return Pair(name, BUFFER, ours, theirs)
        if name in self._facts.unknown and ours is not None and theirs is not None:
            same = ours.shape == theirs.shape and ours.dtype == theirs.dtype
            if same and self._is_mask(name):
                return Pair(name, BUFFER, ours, theirs)
        source, tuned = self._source.value(name), self._tuned.value(name)
        if source is None and theirs is not None:
            return _only_tuned(theirs)
        if tuned is None or source is None:
            return Pair(name, DROPPED, ours, None)
        first = self._seen.setdefault((source, tuned), name)
        if first != name:
            return Pair(name, ALIAS, ours, theirs, of=first)
        one = ours or self._source.model.tensors[source]
        other = theirs or self._tuned.model.tensors[tuned]
        return _both(name, one, other, self._facts)


def pair_tensors(
    source: Side, tuned: Side, facts: PairFacts, is_mask: Mask = lambda name: False
) -> list[Pair]:
    """Pair the tensors of two models by name and tied group, in name order.

    Args:
        source: The source base.
        tuned: The fine-tuned model.
        facts: What the tensors of both are.
        is_mask: Whether a tensor that neither class knows holds infinity, alike in both models.

    Raises:
        ExtractionError: Nothing in common, a shape changed, or an integer tensor was added.
        UnsupportedError: A dtype on which no delta can be computed.
    """
    ours, theirs = source.model.tensors, tuned.model.tensors
    names = sorted(ours.keys() | theirs.keys())
    pairing = _Pairing(source, tuned, facts, is_mask)
    originals_first = sorted(names, key=lambda name: facts.both.root(name) != name)
    pairs = {name: pairing.pair(name) for name in originals_first}
    if not any(pair.source is not None and pair.tuned is not None for pair in pairs.values()):
        raise ExtractionError(
            "the two models have no tensor in common",
            where=tuned.model.label,
            expected=f"names such as {next(iter(ours), '(none)')}",
            found=next(iter(theirs), "(none)"),
            hint="Is this the base the model was fine-tuned from?",
        )
    return [pairs[name] for name in names]


def check_architecture(source: ModelHeaders, tuned: ModelHeaders) -> None:
    """Refuse a pair of different model types before anything is read.

    Raises:
        ExtractionError: The model types differ.
    """
    mine, theirs = source.config.get("model_type"), tuned.config.get("model_type")
    if mine != theirs:
        raise ExtractionError(
            "the two models have different architectures",
            where=tuned.label,
            expected=mine if mine is not None else f"a model_type in {source.label}/config.json",
            found=theirs if theirs is not None else "no model_type in its config.json",
            hint="Name the base that the model was fine-tuned from.",
        )


def check_tokens(source: Tokens | None, tuned: Tokens | None, label: str) -> None:
    """Refuse a fine-tuned tokenizer that moved the source base's tokens to other ids.

    Some renamed tokens (reserved ones put to use) are fine; an order that no longer agrees is not.

    Raises:
        ExtractionError: More than one in a hundred shared ids stands for a token that the source
            base has elsewhere.
    """
    if source is None or tuned is None:
        return
    place = {token: i for i, token in enumerate(source)}
    moved = sum(place.get(t, i) != i for i, t in enumerate(tuned[: len(source)]) if t is not None)
    if moved > len(source) / 100:
        raise ExtractionError(
            f"{moved} tokens have other ids than in the source base",
            where=label,
            expected="the source base's tokens at their ids, new ones after them",
            hint="Rows of the embeddings cannot be subtracted.",
        )
