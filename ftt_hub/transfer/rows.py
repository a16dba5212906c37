"""Alignment of every vocabulary tensor of a result, token by token."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.artifact.index import RESIZED, TensorEntry, token_axis
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.vocabulary import Alignment, RowPlan, Tokens, VocabularyDelta
from ftt_hub.support.findings import Finding, Status, rejected
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.ties import Ties

_VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")

Sizes = tuple[int, int, int]
"""Tokens of the delta, tokens that are differences, tokens of the target."""


def carries_tokenizer(config: AdapterConfig) -> bool:
    """Whether the adapter brings its own vocabulary."""
    return any(name in config.files for name in _VOCABULARY_FILES)


@dataclass
class Rows:
    """The alignment of all vocabulary tensors.

    Attributes:
        main: Of the first of them, by which the result's vocabulary size is known; ``None`` when
            every row keeps its place.
        plans: Of each tensor, under the names of the result.
        axes: The axis of tokens of each.
        findings: What was found on the way.
    """

    main: RowPlan | None = None
    plans: dict[str, RowPlan | None] = field(default_factory=dict)
    axes: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Aligner:
    """Aligns tensors of one adapter with those of one target.

    Attributes:
        config: The adapter's manifest.
        target: Headers of the target.
        tokens: The fine-tuned model's tokens by id; asked only when rows may have to move.
        same_tokens: Whether the target is known to have them too, so that neither is read.
    """

    config: AdapterConfig
    target: ModelHeaders
    tokens: Callable[[], Tokens | None]
    same_tokens: bool

    @functools.cached_property
    def _known(self) -> bool:
        known = vocabulary.has_known_file(self.target.small_file, self.config.vocabulary)
        return self.same_tokens or known

    @functools.cached_property
    def _target_tokens(self) -> Tokens | None:
        if self._known:
            return None
        return vocabulary.read_tokens(self.target.small_file, self.target.label)

    @functools.cached_property
    def _delta_tokens(self) -> Tokens | None:
        summary, tokens = self.config.vocabulary, self._target_tokens
        if self._known or tokens is None:
            return None
        if summary is not None and vocabulary.tokens_digest(tokens) == summary.digest:
            return None
        return self.tokens()

    def align(self, sizes: Sizes) -> Alignment:
        """The alignment of tensors of these sizes; no plan where every row keeps its place."""
        delta_rows, source_rows, target_rows = sizes
        delta = VocabularyDelta(
            delta_rows,
            source_rows,
            self._delta_tokens,
            self.config.vocabulary,
            carries_tokenizer(self.config),
        )
        if self._known:
            alignment = vocabulary.align_same(delta, target_rows)
        else:
            alignment = vocabulary.align(delta, self._target_tokens, target_rows)
        plan = alignment.plan
        if plan is not None and plan.is_identity(target_rows, delta_rows):
            return Alignment(None, alignment.findings)
        return alignment


def axis_of(name: str, shape: tuple[int, ...], facts: TensorFacts) -> int | None:
    """The axis of tokens of a tensor, ``None`` where it is none of the vocabulary."""
    axis = facts.vocabulary.get(name, facts.vocabulary.get(facts.root(name)))
    return axis if axis is not None and axis < len(shape) else None


def _sizes(entry: TensorEntry, shape: tuple[int, ...], axis: int) -> Sizes | None:
    if len(entry.shape) != len(shape):
        return None
    tokens = entry.shape[axis]
    return tokens, tokens if entry.source_rows is None else entry.source_rows, shape[axis]


def _was_left(entry: TensorEntry, shape: tuple[int, ...], axis: int | None) -> bool:
    """Whether fine-tuning lengthened other tables of tokens and left this one, as the target."""
    if axis is None or entry.role == RESIZED or len(entry.shape) != len(shape):
        return False
    return entry.shape[axis] == shape[axis]


def align_rows(ties: Ties, tensors: Mapping[str, TensorInfo], aligner: Aligner) -> Rows:
    """Align the rows of every vocabulary tensor of a result.

    Args:
        ties: Which entry each tensor gets.
        tensors: The result's tensors by name, as the target has them before.
        aligner: Knows the tokens of both sides.
    """
    result, made = Rows(), dict[Sizes, Alignment]()
    without: list[str] = []
    lengthened = any(e is not None and e.role == RESIZED for e in map(ties.entry, tensors))
    for name, info in sorted(tensors.items()):
        entry = ties.entry(name)
        axis = axis_of(name, info.shape, ties.facts)
        if lengthened and entry is not None and _was_left(entry, info.shape, axis):
            continue
        if axis is None and entry is not None and entry.role == RESIZED and info.shape:
            axis = token_axis(entry.shape)
        if axis is None:
            continue
        result.axes[name] = axis
        sizes = None if entry is None else _sizes(entry, info.shape, axis)
        if sizes is None:
            without.append(name)
            continue
        if sizes not in made:
            made[sizes] = aligner.align(sizes)
            _note(result, made[sizes], first=len(made) == 1)
        result.plans[name] = made[sizes].plan
    main = next(iter(made.items()), None)
    for name in without:  # they keep step with the others where these have as many rows
        same = main is not None and tensors[name].shape[result.axes[name]] == main[0][2]
        result.plans[name] = result.main if same else None
    _refuse_inner_axes(result, tensors)
    return result


def _note(result: Rows, alignment: Alignment, *, first: bool) -> None:
    """Take the first alignment with its findings, and of the others what refuses the target."""
    if first:
        result.main = alignment.plan
    result.findings += [
        finding
        for finding in alignment.findings
        if (first or finding.status is Status.REJECTED) and finding not in result.findings
    ]


def _refuse_inner_axes(result: Rows, tensors: Mapping[str, TensorInfo]) -> None:
    """Only tensors of which every token is one run of elements can be aligned."""
    for name, axis in result.axes.items():
        if result.plans.get(name) is not None and set(tensors[name].shape[:axis]) - {1}:
            reason = f"tokens of {name} lie on axis {axis}, where rows cannot move"
            result.findings.append(rejected("vocabulary", reason))
            result.plans[name] = None
