"""The plan of a transfer: for every tensor of the result, what it is made of.

Applying to disk, loading into memory and verifying all start from the same plan, so they agree on
names, rows, tied tensors and refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.artifact.index import ADDED, TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.arrangement import Piece
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.spelling import Respelling
from ftt_hub.checkpoint.view import RespelledReader
from ftt_hub.checkpoint.vocabulary import RowPlan, Tokens
from ftt_hub.support.findings import Finding
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.result_config import changed_config
from ftt_hub.transfer.rows import Aligner, Rows, align_rows, axis_of, carries_tokenizer
from ftt_hub.transfer.target_facts import source_facts, target_facts
from ftt_hub.transfer.ties import Ties

ReadBits = Callable[[str, int, int], Bits]


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
        axis: The axis of which `rows` tells; every axis before it has one element.
        verbatim: Whether it is copied whatever its values are: a buffer that nobody trains.
        parts: Where the target stores the weights in another layout than the adapter: the deltas
            to add, and the elements each is for. `entry` and `rows` are ``None`` then.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    target: TensorInfo | None
    entry: TensorEntry | None
    rows: RowPlan | None = None
    axis: int = 0
    verbatim: bool = False
    parts: tuple[DeltaPart, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether a delta is added."""
        return self.entry is not None or bool(self.parts)

    @property
    def token_elements(self) -> int:
        """Elements of one row of the vocabulary."""
        return int(np.prod(self.shape[self.axis + 1 :], dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes in the result."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.bits // 8

    @property
    def row_elements(self) -> int:
        """Elements of one row; 1 for scalars."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) if self.shape else 1


@dataclass(frozen=True)
class Facts:
    """What an adapter and a target are, under the adapter's names.

    Attributes:
        target: Headers of the target.
        source: What the source base's tensors are, by its architecture.
        ties: Which delta each tensor of the target gets.
        axes: The axis of tokens of each vocabulary tensor.
    """

    target: ModelHeaders
    source: TensorFacts
    ties: Ties
    axes: Mapping[str, int]


@dataclass(frozen=True)
class TransferPlan:
    """All tensors of the result, and what was found on the way.

    Attributes:
        tensors: By the names of the result, in name order.
        findings: What planning found about ties, the rows of the vocabulary, and the config.
        rows: Alignment of the vocabulary, ``None`` when every row keeps its place.
        vocabulary_size: Rows of the result's embeddings, when known.
        facts: What the plan was made from.
        config: Keys that the result's config takes from the fine-tuned model; ``None`` takes one
            away.
        respelling: The target under the adapter's names; ``None`` where it has them.
        matched: The tensors by the adapter's names, where these are others than the target's.
    """

    tensors: Mapping[str, TensorPlan]
    findings: tuple[Finding, ...]
    rows: RowPlan | None
    vocabulary_size: int | None
    facts: Facts
    config: Mapping[str, Any] = field(default_factory=dict)
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


def adapter_tokens(
    small_file: Callable[[str], bytes | None],
    config: AdapterConfig,
    source_tokens: Callable[[], Tokens | None],
) -> Tokens | None:
    """The fine-tuned model's tokens: from the adapter, else from the source base's tokenizer."""
    if carries_tokenizer(config):
        return vocabulary.read_tokens(small_file, config.fine_tuned.id)
    return source_tokens()


def _plan_tensor(name: str, info: TensorInfo, ties: Ties, rows: Rows) -> TensorPlan:
    """A tensor that has its weights from the target."""
    entry, plan = ties.entry(name), rows.plans.get(name)
    stored = entry if entry is not None and entry.slot is not None else None
    if stored is not None and stored.role == ADDED:
        return _added(name, stored, rows, info.dtype)
    axis = rows.axes.get(name, 0)
    shape = info.shape if plan is None else _with_rows(info.shape, axis, plan)
    verbatim = name in ties.facts.buffers
    return TensorPlan(name, info.dtype, shape, info, stored, plan, axis, verbatim)


def _with_rows(shape: tuple[int, ...], axis: int, plan: RowPlan) -> tuple[int, ...]:
    return (*shape[:axis], plan.rows, *shape[axis + 1 :])


def _added(name: str, entry: TensorEntry, rows: Rows, dtype: DType) -> TensorPlan:
    """A tensor whose values only the fine-tuned model has: written, never added to others."""
    plan = rows.main if name in rows.axes and rows.main is not None else None
    axis = rows.axes.get(name, 0)
    shape = entry.shape if plan is None else _with_rows(entry.shape, axis, plan)
    return TensorPlan(name, dtype, shape, None, entry, plan, axis)


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
    known = source_facts(config, entries)
    ties = Ties(known, target_facts(config, entries, target), entries, target.tensors)
    kept = {**target.tensors, **ties.extra}
    rows = align_rows(ties, kept, Aligner(config, target, tokens, same_tokens))
    tensors = {name: _plan_tensor(name, info, ties, rows) for name, info in kept.items()}
    for name, entry in entries.items():
        if entry.role == ADDED and name not in tensors:
            axis = axis_of(name, entry.shape, ties.facts)
            rows.axes.update({} if axis is None else {name: axis})
            tensors[name] = _added(name, entry, rows, entry.dtype)
    changes = changed_config(known, target.config, untied=bool(ties.untied))
    main = rows.main
    size = main.rows if main is not None else vocabulary.vocabulary_size(target.config)
    return TransferPlan(
        tensors=dict(sorted(tensors.items())),
        findings=(*ties.findings(), *rows.findings, *changes.findings),
        rows=main,
        vocabulary_size=size,
        facts=Facts(target, known, ties, rows.axes),
        config=changes.values,
    )
