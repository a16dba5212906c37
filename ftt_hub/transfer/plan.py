"""The plan of a transfer: for every tensor of the result, what it is made of.

Applying to disk, loading into memory and verifying all start from the same plan, so they agree on
names, rows, tied tensors and refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ftt_hub.artifact.index import ADDED, ALIAS, RESIZED, TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.vocabulary import RowPlan, Tokens, VocabularyDelta
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.tensors.dtypes import DType
from ftt_hub.tensors.header import TensorInfo

_VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")


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
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    target: TensorInfo | None
    entry: TensorEntry | None
    rows: RowPlan | None = None

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
        tensors: By name, in name order.
        findings: About tied embeddings and the rows of the vocabulary.
        rows: Alignment of the vocabulary, ``None`` when every row keeps its place.
        vocabulary_size: Rows of the result's embeddings, when known.
        vocabulary: Names of the tensors that have a row per token.
    """

    tensors: Mapping[str, TensorPlan]
    findings: tuple[Finding, ...]
    rows: RowPlan | None
    vocabulary_size: int | None
    vocabulary: frozenset[str] = frozenset()


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
    findings = (*_check_tied(entries, target, source), *aligned)
    size = rows.rows if rows is not None else vocabulary.vocabulary_size(target.config)
    ordered = dict(sorted(tensors.items()))
    return TransferPlan(ordered, findings, rows, size, frozenset(aligned_names))
