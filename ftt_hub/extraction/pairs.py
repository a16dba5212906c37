"""Which tensors of two checkpoints belong together, and what became of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ftt_hub.artifact.index import ADDED, ALIAS, DELTA, DROPPED, RESIZED
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.vocabulary import Tokens, is_vocabulary_tensor, vocabulary_size
from ftt_hub.errors import ExtractionError, UnsupportedError
from ftt_hub.tensors.dtypes import DType, wider
from ftt_hub.tensors.header import TensorInfo

Same = Callable[[str, str], bool]
"""Whether two tensors of the fine-tuned model have the same bytes."""


@dataclass(frozen=True)
class Pair:
    """One tensor of the source base, of the fine-tuned model, or of both.

    Attributes:
        name: Checkpoint name.
        role: As in the index; ``delta`` for anything both have in the same shape.
        source: The source base's tensor.
        tuned: The fine-tuned model's tensor.
        of: For an alias, the tensor it is tied to.
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
        return self.tuned is not None and self.of is None and self.dtype.is_float

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


def _both(source: TensorInfo, tuned: TensorInfo, sizes: tuple[int | None, int | None]) -> Pair:
    _check_dtypes(source, tuned)
    if source.shape == tuned.shape:
        return Pair(tuned.name, DELTA, source, tuned)
    resized = (
        is_vocabulary_tensor(source.name, source.shape, sizes[0])
        and is_vocabulary_tensor(tuned.name, tuned.shape, sizes[1])
        and source.shape[1:] == tuned.shape[1:]
    )
    if not resized:
        raise ExtractionError(
            "the shape changed, and not by added tokens",
            where=tuned.name,
            expected=list(source.shape),
            found=list(tuned.shape),
            hint="A head with another number of classes has no difference; leave it out of both "
            "models, or name the base that has this shape.",
        )
    return Pair(tuned.name, RESIZED, source, tuned)


def _embedding_of(name: str, model: ModelHeaders, info: TensorInfo) -> str | None:
    """The embedding an lm_head is tied to in a model, by config and shape."""
    if not name.endswith("lm_head.weight") or model.config.get("tie_word_embeddings") is False:
        return None
    found = [
        n
        for n, t in model.tensors.items()
        if n != name
        and t.shape == info.shape
        and t.dtype == info.dtype
        and n.endswith(("embed_tokens.weight", "wte.weight", "word_embeddings.weight"))
    ]
    return found[0] if len(found) == 1 else None


def _only_tuned(info: TensorInfo, model: ModelHeaders, same: Same) -> Pair:
    embedding = _embedding_of(info.name, model, info)
    if embedding is not None and same(info.name, embedding):
        return Pair(info.name, ALIAS, None, info, of=embedding)
    if not info.dtype.is_float:
        raise ExtractionError(
            f"fine-tuning added an integer tensor ({info.dtype.name})",
            where=info.name,
            expected="float tensors, or integer tensors that both models have",
            hint="Remove it from the fine-tuned checkpoint if it is a buffer.",
        )
    return Pair(info.name, ADDED, None, info)


def _only_source(info: TensorInfo, source: ModelHeaders, tuned: ModelHeaders) -> Pair:
    embedding = _embedding_of(info.name, source, info)
    if embedding is not None and embedding in tuned.tensors:
        return Pair(info.name, ALIAS, info, None, of=embedding)
    return Pair(info.name, DROPPED, info, None)


def pair_tensors(source: ModelHeaders, tuned: ModelHeaders, same: Same) -> list[Pair]:
    """Pair the tensors of two models by name, in name order.

    Raises:
        ExtractionError: Nothing in common, a shape changed, or an integer tensor was added.
        UnsupportedError: A dtype on which no delta can be computed.
    """
    common = source.tensors.keys() & tuned.tensors.keys()
    if not common:
        raise ExtractionError(
            "the two models have no tensor in common",
            where=tuned.label,
            expected=f"names such as {next(iter(source.tensors), '(none)')}",
            found=next(iter(tuned.tensors), "(none)"),
            hint="Is this the base the model was fine-tuned from?",
        )
    sizes = (vocabulary_size(source.config), vocabulary_size(tuned.config))
    pairs = []
    for name in sorted(source.tensors.keys() | tuned.tensors.keys()):
        if name in common:
            pairs.append(_both(source.tensors[name], tuned.tensors[name], sizes))
        elif name in tuned.tensors:
            pairs.append(_only_tuned(tuned.tensors[name], tuned, same))
        else:
            pairs.append(_only_source(source.tensors[name], source, tuned))
    return pairs


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
