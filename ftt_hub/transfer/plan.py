"""The plan of a transfer: for every tensor of the result, what it is made of.

Applying to disk, loading into memory and verifying all start from the same plan, so they agree on
names, rows, tied tensors and refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftt_hub.artifact import sketch
from ftt_hub.artifact.index import ADDED, ALIAS, RESIZED, TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.arrangement import Piece
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.spelling import Respelling
from ftt_hub.checkpoint.view import RespelledReader
from ftt_hub.checkpoint.vocabulary import RowPlan, Tokens, VocabularyDelta
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer import checks

ReadBits = Callable[[str, int, int], Bits]

_VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")


@dataclass(frozen=True)
class DeltaPart:
    """Elements of a delta, and where they belong in a tensor of the result.

    Attributes:
        entry: The delta.
        piece: Its source is the delta's tensor, its target the result's.
    """

    entry: TensorEntry
    piece: Piece


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor of the result is made.

    Attributes:
        name: Checkpoint name in the result.
        dtype: The target's dtype (the delta's for an added tensor).
        shape: Shape in the result.
        target: The target's tensor, ``None`` for an added one.
        entry: The delta to add, ``None`` for a copy.
        rows: Alignment of the rows, ``None`` when every row keeps its place.
        parts: Where the target stores the weights in another layout than the adapter: the deltas
            to add, and the elements each is for. `entry` and `rows` are ``None`` then.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    target: TensorInfo | None
    entry: TensorEntry | None
    rows: RowPlan | None = None
    parts: tuple[DeltaPart, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether a delta is added."""
        return self.entry is not None or bool(self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes in the result."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.bits // 8

    @property
    def row_elements(self) -> int:
        """Elements of one row; 1 for scalars."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) if self.shape else 1


@dataclass(frozen=True)
class TransferPlan:
    """All tensors of the result, and what was found on the way.

    Attributes:
        tensors: By the names of the result, in name order.
        findings: From headers; see `check_sketch` for the weights.
        rows: Alignment of the vocabulary, ``None`` when every row keeps its place.
        vocabulary_size: Rows of the result's embeddings, when known.
        respelling: The target under the adapter's names; ``None`` where it has them.
        matched: The tensors by the adapter's names, where these are others than the target's.
    """

    tensors: Mapping[str, TensorPlan]
    findings: tuple[Finding, ...]
    rows: RowPlan | None
    vocabulary_size: int | None
    respelling: Respelling | None = None
    matched: Mapping[str, TensorPlan] | None = None

    @property
    def by_adapter_name(self) -> Mapping[str, TensorPlan]:
        """The tensors by the names that the adapter has for them."""
        return self.tensors if self.matched is None else self.matched

    def named(
        self, tensors: Mapping[str, TensorInfo], read_bits: ReadBits
    ) -> tuple[Mapping[str, TensorInfo], ReadBits]:
        """The target's tensors, and how to read them, under the adapter's names."""
        if self.respelling is None:
            return tensors, read_bits
        reader = RespelledReader(self.respelling.tensors, tensors, read_bits)
        return reader.tensors, reader.read_bits


def carries_tokenizer(config: AdapterConfig) -> bool:
    """Whether the adapter brings its own vocabulary."""
    return any(name in config.files for name in _VOCABULARY_FILES)


def adapter_tokens(
    small_file: Callable[[str], bytes | None],
    config: AdapterConfig,
    source_tokens: Callable[[], Tokens | None],
) -> Tokens | None:
    """The fine-tuned model's tokens: from the adapter, else from the source base's tokenizer."""
    if carries_tokenizer(config):
        return vocabulary.read_tokens(small_file, config.fine_tuned.id)
    return source_tokens()


def _aliases(entries: Mapping[str, TensorEntry], target: ModelHeaders) -> dict[str, TensorEntry]:
    """Tensors of the target that are tied to another one and get the same delta."""
    found = {
        e.name: entries[e.of]
        for e in entries.values()
        if e.role == ALIAS and e.of is not None and e.of in entries
    }
    if not target.config.get("tie_word_embeddings"):
        return found
    heads = [n for n in target.tensors if n.endswith("lm_head.weight") and n not in entries]
    embeddings = [e for n, e in entries.items() if n.endswith("embed_tokens.weight")]
    if len(heads) == 1 and len(embeddings) == 1:
        found[heads[0]] = embeddings[0]
    return found


def _check_tied(
    entries: Mapping[str, TensorEntry], target: ModelHeaders, source: Mapping[str, object]
) -> list[Finding]:
    mine, theirs = source.get("tie_word_embeddings"), target.config.get("tie_word_embeddings")
    if bool(mine) == bool(theirs) or mine is None or theirs is None:
        return [accepted("tied embeddings", "same on both sides")]
    heads = [n for n, e in entries.items() if n.endswith("lm_head.weight") and e.slot is not None]
    if theirs and heads:
        reason = (
            "the adapter has its own delta for lm_head, which the target ties to the embeddings"
        )
        return [rejected("tied embeddings", reason)]
    reason = "tied in the source base, separate in the target: lm_head is left as it is"
    return [warned("tied embeddings", reason)]


def _align(
    config: AdapterConfig,
    entries: Mapping[str, TensorEntry],
    target: ModelHeaders,
    tokens: Callable[[], Tokens | None],
    same_tokens: bool,
) -> tuple[RowPlan | None, set[str], list[Finding]]:
    """Row plan, names of the vocabulary tensors, findings."""
    size = vocabulary.vocabulary_size(target.config)
    known = (vocabulary.vocabulary_size(config.source_base.config), size)
    names = {
        name
        for name, e in entries.items()
        if e.shape
        and (
            e.role == RESIZED
            or any(vocabulary.is_vocabulary_tensor(name, e.shape, n) for n in known)
        )
    }
    names |= {
        n for n, t in target.tensors.items() if vocabulary.is_vocabulary_tensor(n, t.shape, size)
    }
    rows = [(entries[n], target.tensors[n]) for n in sorted(names & entries.keys())
            if n in target.tensors]  # fmt: skip
    if not rows:
        return None, names, []
    entry, info = rows[0]
    same_tokens = same_tokens or vocabulary.has_known_file(target.small_file, config.vocabulary)
    target_tokens = None if same_tokens else vocabulary.read_tokens(target.small_file, target.label)
    same = same_tokens or (
        config.vocabulary is not None
        and target_tokens is not None
        and (vocabulary.tokens_digest(target_tokens) == config.vocabulary.digest)
    )
    source_rows = entry.shape[0] if entry.source_rows is None else entry.source_rows
    delta = VocabularyDelta(
        entry.shape[0], source_rows, None if same or target_tokens is None else tokens(),
        config.vocabulary, carries_tokenizer(config),
    )  # fmt: skip
    alignment = (
        vocabulary.align_same(delta, info.shape[0])
        if same_tokens
        else vocabulary.align(delta, target_tokens, info.shape[0])
    )
    plan = alignment.plan
    if plan is not None and plan.is_identity(info.shape[0], entry.shape[0]):
        plan = None
    return plan, names, alignment.findings


def _plan_tensor(info: TensorInfo, entry: TensorEntry | None, rows: RowPlan | None) -> TensorPlan:
    stored = entry if entry is not None and entry.slot is not None else None
    shape = info.shape if rows is None else (rows.rows, *info.shape[1:])
    return TensorPlan(info.name, info.dtype, shape, info, stored, rows)


def plan_transfer(
    config: AdapterConfig,
    entries: Mapping[str, TensorEntry],
    target: ModelHeaders,
    tokens: Callable[[], Tokens | None],
    *,
    same_tokens: bool = False,
) -> TransferPlan:
    """Match an adapter with a target.

    Args:
        config: The adapter's manifest.
        entries: Its index.
        target: Headers of the target.
        tokens: The fine-tuned model's tokens by id; asked only when rows may have to move.
        same_tokens: Whether the target is known to have them too, so that neither is read.
    """
    source = config.source_base.config
    rows, aligned_names, aligned = _align(config, entries, target, tokens, same_tokens)
    aliases = _aliases(entries, target)
    tensors = {
        name: _plan_tensor(
            info, aliases.get(name, entries.get(name)), rows if name in aligned_names else None
        )
        for name, info in target.tensors.items()
    }
    for name, entry in entries.items():
        if entry.role == ADDED and name not in tensors:
            tensors[name] = TensorPlan(name, entry.dtype, entry.shape, None, entry)
    findings = [
        checks.check_architecture(source, target.config),
        *checks.check_quantization(target),
        *checks.check_names(entries, target),
        *checks.check_shapes(entries, target, aligned_names),
        checks.check_dtypes(entries, target),
        *_check_tied(entries, target, source),
        *aligned,
        *checks.check_config(source, target.config),
        checks.check_licence(config),
    ]
    size = rows.rows if rows is not None else vocabulary.vocabulary_size(target.config)
    return TransferPlan(dict(sorted(tensors.items())), tuple(findings), rows, size)


def compare_sketch(
    folder: Path,
    plan: TransferPlan,
    tensors: Mapping[str, TensorInfo],
    read_bits: ReadBits,
    holds: Callable[[str, int], bool] = lambda name, element: True,
) -> sketch.SketchMatch | None:
    """Compare the adapter's sketch with a target's weights; ``None`` when it has none.

    Args:
        folder: The adapter's.
        plan: How it matches the target.
        tensors: The target's.
        read_bits: Reads its weights by name, first element and count.
        holds: Whether the row of an element can be read here.
    """
    sample = sketch.read_sketch(folder)
    if sample is None:
        return None
    tensors, read_bits = plan.named(tensors, read_bits)

    def locate(name: str, element: int) -> tuple[str, int] | None:
        planned = plan.by_adapter_name.get(name)
        if planned is None or planned.rows is None:
            return (name, element) if holds(name, element) else None
        width = planned.row_elements
        places = np.flatnonzero(planned.rows.delta_row == element // width)
        row = int(planned.rows.target_row[places[0]]) if places.size else -1
        found = row * width + element % width
        return (name, found) if row >= 0 and holds(name, found) else None

    return sketch.compare(sample, tensors, read_bits, locate)


def check_sketch(
    folder: Path,
    plan: TransferPlan,
    tensors: Mapping[str, TensorInfo],
    read_bits: ReadBits,
    holds: Callable[[str, int], bool] = lambda name, element: True,
) -> Finding:
    """Is the target a relative of the source base? Reads some kilobytes of its weights."""
    match = compare_sketch(folder, plan, tensors, read_bits, holds)
    if match is None:
        return warned("sketch", "the adapter has no sketch: the target's lineage is not checked")
    return sketch.judge(match)
