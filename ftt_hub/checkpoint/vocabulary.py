"""Vocabularies: which token a row of the embeddings stands for, and aligning rows by it.

Rows are matched by token string, never by position alone. Rows beyond the tokenizer are padding.
What cannot be matched is listed, never guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftt_hub.artifact.manifest import VocabularySummary
from ftt_hub.errors import CheckpointError
from ftt_hub.support.canonical import digest_of
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.tensors.header import parse_json

Tokens = Sequence[str | None]
Rows = NDArray[np.int64]
MAX_TOKENS = 1 << 24
MAX_RENAMED = 256
TOKENIZER = "tokenizer.json"

_NAMES = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|embed_out|tok_embeddings|lm_head|shared"
    r"|output_projection|predictions|decoder|embeddings)\.(weight|bias)$"
)


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """`vocab_size` of a model config, also where it lies in a text sub-config."""
    for part in (config, config.get("text_config")):
        size = part.get("vocab_size") if isinstance(part, dict | Mapping) else None
        if isinstance(size, int) and not isinstance(size, bool):
            return size
    return None


def is_vocabulary_tensor(name: str, shape: Sequence[int], size: int | None) -> bool:
    """Whether the rows of a tensor stand for token ids."""
    return size is not None and bool(shape) and shape[0] == size and bool(_NAMES.search(name))


def _tokens_by_id(ids: Mapping[str, object], where: str) -> Tokens:
    numbers = [n for n in ids.values() if isinstance(n, int) and 0 <= n < MAX_TOKENS]
    if len(numbers) != len(ids):
        raise CheckpointError("token ids are not small whole numbers", where=where)
    tokens: list[str | None] = [None] * (max(numbers, default=-1) + 1)
    for token, number in ids.items():
        tokens[int(str(number))] = token
    return tokens


def _from_tokenizer_json(value: Mapping[str, Any], where: str) -> Tokens:
    model = value.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):  # Unigram: [[piece, score], …]
        vocab = {str(item[0]): i for i, item in enumerate(vocab) if isinstance(item, list) and item}
    if not isinstance(vocab, dict):
        raise CheckpointError("has no vocabulary", where=where)
    ids: dict[str, object] = dict(vocab)
    for item in value.get("added_tokens") or []:
        if isinstance(item, dict):
            ids[str(item.get("content"))] = item.get("id")
    return _tokens_by_id(ids, where)


def read_tokens(small_file: Callable[[str], bytes | None], where: str) -> Tokens | None:
    """Token strings by id from a model's tokenizer files, ``None`` when there are none.

    Reads `tokenizer.json`, else `vocab.json` (+ `added_tokens.json`), else `vocab.txt`.

    Raises:
        CheckpointError: A tokenizer file is malformed.
    """
    data = small_file("tokenizer.json")
    if data is not None:
        value = parse_json(data, f"{where}/tokenizer.json")
        if not isinstance(value, dict):
            raise CheckpointError("is not a JSON object", where=f"{where}/tokenizer.json")
        return _from_tokenizer_json(value, f"{where}/tokenizer.json")
    data = small_file("vocab.json")
    if data is not None:
        ids: dict[str, object] = {}
        for part in (data, small_file("added_tokens.json")):
            value = {} if part is None else parse_json(part, f"{where}/vocab.json")
            ids.update(value if isinstance(value, dict) else {})
        return _tokens_by_id(ids, f"{where}/vocab.json")
    data = small_file("vocab.txt")
    return None if data is None else data.decode("utf-8", "replace").splitlines()


def tokens_digest(tokens: Tokens) -> str:
    """Digest of token strings in id order."""
    return digest_of(list(tokens))


def has_known_file(
    small_file: Callable[[str], bytes | None], summary: VocabularySummary | None
) -> bool:
    """Whether a model's `tokenizer.json` is one that is known to hold the summary's tokens."""
    if summary is None or not summary.files:
        return False
    data = small_file(TOKENIZER)
    return data is not None and hashlib.sha256(data).hexdigest() in summary.files


def summarize(
    tuned: Tokens | None, source: Tokens | None, files: Sequence[bytes | None] = ()
) -> VocabularySummary | None:
    """What the config records of the fine-tuned model's vocabulary.

    Args:
        tuned: Its tokens.
        source: The source base's tokens.
        files: The `tokenizer.json` of both, in that order, where they have one.
    """
    if tuned is None:
        return None
    same = zip((tuned, source), files, strict=False)
    known = sorted(
        {hashlib.sha256(data).hexdigest() for tokens, data in same if data and tokens == tuned}
    )
    if source is None:
        return VocabularySummary(len(tuned), tokens_digest(tuned), files=known)
    renamed = {
        str(i): before
        for i, (before, after) in enumerate(zip(source, tuned, strict=False))
        if before is not None and before != after
    }
    if len(renamed) > MAX_RENAMED:
        renamed = {}
    return VocabularySummary(len(tuned), tokens_digest(tuned), len(source), renamed, known)


@dataclass(frozen=True)
class RowPlan:
    """How the rows of a vocabulary tensor of the result come about.

    Attributes:
        rows: Rows of the result.
        target_row: For each row the target's row, or −1.
        delta_row: For each row the delta's row, or −1 (left as the target has it).
    """

    rows: int
    target_row: Rows
    delta_row: Rows

    def is_identity(self, target_rows: int, delta_rows: int) -> bool:
        """Whether every row keeps its place on both sides."""
        if not self.rows == target_rows == delta_rows:
            return False
        rows = np.arange(self.rows)
        return np.array_equal(self.target_row, rows) and np.array_equal(self.delta_row, rows)


@dataclass(frozen=True)
class VocabularyDelta:
    """The delta's side of an alignment.

    Attributes:
        rows: Rows of the delta.
        source_rows: Rows below this are differences, those above are values.
        tokens: The fine-tuned model's tokens by id, if at hand.
        summary: What the adapter records of them.
        carried: Whether the adapter brings its own tokenizer, which the result will then use.
    """

    rows: int
    source_rows: int
    tokens: Tokens | None
    summary: VocabularySummary | None
    carried: bool


@dataclass
class Alignment:
    """The outcome: a plan when rows could be matched, and what was found."""

    plan: RowPlan | None
    findings: list[Finding] = field(default_factory=list)


def _sample(tokens: Sequence[object]) -> str:
    more = f" and {len(tokens) - 5} more" if len(tokens) > 5 else ""
    return ", ".join(repr(t)[:24] for t in tokens[:5]) + more


def _same_prefix(delta: VocabularyDelta, tokens: Tokens) -> bool:
    summary = delta.summary
    if summary is None or len(tokens) < summary.size:
        return False
    return tokens_digest(tokens[: summary.size]) == summary.digest


def _by_position(delta: VocabularyDelta, target_rows: int) -> Alignment:
    """Same tokens at the same ids: extra rows of either side are padding or unknown to Δ."""
    rows = np.arange(target_rows)
    plan = RowPlan(target_rows, rows, np.where(rows < delta.rows, rows, -1))
    if target_rows == delta.rows:
        return Alignment(plan, [accepted("vocabulary", "same tokens at the same ids")])
    left = max(0, target_rows - delta.rows)
    reason = (
        f"same tokens at the same ids; {left} extra rows of the target are left as they are"
        if left
        else f"same tokens; {delta.rows - target_rows} padding rows of the adapter are left out"
    )
    return Alignment(plan, [accepted("vocabulary", reason)])


def _in_target_order(delta: VocabularyDelta, tokens: Tokens, target_rows: int) -> Alignment:
    """The result keeps the target's tokenizer; deltas move to where the target has the token."""
    place = {token: i for i, token in enumerate(delta.tokens or []) if token is not None}
    delta_row = np.full(target_rows, -1, np.int64)
    for row, token in enumerate(tokens[:target_rows]):
        if token is not None:
            number = place.pop(token, -1)
            delta_row[row] = number if number < delta.rows else -1
    moved = int(((delta_row >= 0) & (delta_row != np.arange(target_rows))).sum())
    left = int((delta_row < 0).sum())
    reason = f"aligned by token: {moved} rows moved, {left} rows of the target left as they are"
    findings = [warned("vocabulary", reason) if moved else accepted("vocabulary", reason)]
    if place:
        missing = f"{len(place)} tokens of the adapter are unknown to the target and left out"
        findings.append(warned("vocabulary", f"{missing}: {_sample(list(place))}"))
    return Alignment(RowPlan(target_rows, np.arange(target_rows), delta_row), findings)


def _match_rows(
    delta: VocabularyDelta, tokens: Tokens, target_rows: int
) -> tuple[list[int], list[str]]:
    """For each fine-tuned token the target's row (−1: an added value), and unmatched tokens."""
    place = {t: i for i, t in enumerate(tokens) if t is not None and i < target_rows}
    known = delta.summary.source_size if delta.summary else None
    before = delta.summary.renamed if delta.summary else {}
    rows: list[int] = []
    unmatched: list[str] = []
    for number, token in enumerate(delta.tokens or []):
        row = place.get(token, -1) if token is not None else -1
        if row < 0 and str(number) in before:
            row = place.get(before[str(number)], -1)
        was_padding = known is not None and number >= known and number < delta.source_rows
        if row < 0 and was_padding and len(tokens) <= number < target_rows:
            row = number  # a token in what was padding on both sides
        if row < 0 and number < delta.source_rows and token is not None:
            unmatched.append(token)
        rows.append(row)
    return rows, unmatched


def _in_tuned_order(delta: VocabularyDelta, tokens: Tokens, target_rows: int) -> Alignment:
    """The result gets the fine-tuned tokenizer; the target's rows move to its ids."""
    matched, unmatched = _match_rows(delta, tokens, target_rows)
    if unmatched:
        reason = f"{len(unmatched)} tokens of the adapter have no row in the target"
        return Alignment(None, [rejected("vocabulary", f"{reason}: {_sample(unmatched)}")])
    used = set(matched)
    spare = [row for row in range(min(len(tokens), target_rows)) if row not in used]
    padding = [row for row in range(len(tokens), target_rows) if row not in used]
    rows = max(target_rows, len(matched) + len(spare))
    rest = (spare + padding)[: rows - len(matched)]
    target_row = np.array(matched + rest, np.int64)
    target_row = np.concatenate([target_row, np.full(rows - len(target_row), -1, np.int64)])
    numbers = np.arange(rows)
    delta_row = np.where(numbers < min(len(matched), delta.rows), numbers, -1)
    added = int((target_row[: len(matched)] < 0).sum())
    moved = int(((target_row >= 0) & (target_row != numbers)).sum())
    reason = (
        f"aligned by token: {added} rows added, {moved} rows moved, "
        f"{len(spare)} tokens that only the target has are kept past the tokenizer"
    )
    findings = [warned("vocabulary", reason) if moved else accepted("vocabulary", reason)]
    if (target_row < 0).sum() > added:
        findings = [rejected("vocabulary", "rows of the result have no source")]
        return Alignment(None, findings)
    return Alignment(RowPlan(rows, target_row, delta_row), findings)


def align_same(delta: VocabularyDelta, target_rows: int) -> Alignment:
    """The alignment where the target is known to have the fine-tuned model's tokenizer."""
    return _by_position(delta, target_rows)


def align(delta: VocabularyDelta, tokens: Tokens | None, target_rows: int) -> Alignment:
    """Match the rows of a vocabulary delta with those of a target.

    Args:
        delta: The adapter's side.
        tokens: The target's tokens by id, if at hand.
        target_rows: Rows of the target's embeddings.
    """
    if (
        tokens is not None
        and _same_prefix(delta, tokens)
        and (delta.summary is not None and delta.summary.size <= target_rows)
    ):
        return _by_position(delta, target_rows)
    if tokens is not None and delta.tokens is not None:
        order = _in_tuned_order if delta.carried else _in_target_order
        return order(delta, tokens, target_rows)
    if tokens is not None and delta.summary is not None:
        reason = (
            "the target's tokens differ from the adapter's, and the tokenizer of the source base, "
            "which would tell how, is not at hand"
        )
        return Alignment(None, [rejected("vocabulary", reason)])
    if target_rows == delta.rows == delta.source_rows:
        plan = RowPlan(target_rows, np.arange(target_rows), np.arange(target_rows))
        reason = "same number of rows, but no tokenizer at hand to compare their tokens"
        return Alignment(plan, [warned("vocabulary", reason)])
    reason = (
        f"{delta.rows} rows in the adapter, {target_rows} in the target, and "
        f"{'the target has' if delta.tokens is not None else 'there is'} no tokenizer to align them"
    )
    return Alignment(None, [rejected("vocabulary", reason)])
