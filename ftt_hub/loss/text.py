"""Held-out text: a plain file or JSONL, raw or chat, as windows of token ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import FttError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 512
MIN_SCORED = 64
_JSONL = (".jsonl", ".ndjson", ".json")


class TextError(FttError):
    """Held-out text cannot be read, or holds too little to measure anything."""


@dataclass(frozen=True)
class Window:
    """Tokens that a model sees at once.

    Attributes:
        ids: Token ids.
        scored: For each id, whether its prediction counts; never for the first one.
    """

    ids: tuple[int, ...]
    scored: tuple[bool, ...]


@dataclass(frozen=True)
class HeldOutText:
    """Windows of held-out text under one tokenizer.

    Attributes:
        windows: In the order of the file.
        label: The file's name, for messages.
        sample: The beginning of the text, at most 20,000 characters.
    """

    windows: tuple[Window, ...]
    label: str
    sample: str

    @property
    def tokens(self) -> int:
        """Number of scored tokens."""
        return sum(sum(window.scored) for window in self.windows)


def read_text(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int | None = None,
    window: int = WINDOW,
) -> HeldOutText:
    """Read held-out text and cut it into windows.

    A JSONL row is ``{"text": …}``, ``{"prompt": …, "completion": …}`` (only the completion is
    scored) or ``{"messages": [{"role": …, "content": …}, …]}`` (only what the assistant says is
    scored, rendered by the tokenizer's chat template). Any other file is one plain text.

    Args:
        path: UTF-8 file; by its suffix ``.jsonl``, ``.ndjson`` or ``.json`` JSONL, else plain.
        tokenizer: The tokenizer of the models to measure.
        tokens: Stop once so many tokens are scored.
        window: Tokens that a model sees at once; longer documents are cut.

    Raises:
        TextError: Missing, not UTF-8, a row that cannot be parsed (named by its line), no chat
            template for a chat, or fewer than 64 scored tokens in all.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TextError("cannot read the text", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise TextError(
            "the text is not UTF-8",
            where=path,
            found=f"byte {error.start}",
            hint="Convert it with iconv.",
        ) from error
    windows: list[Window] = []
    scored = 0
    for piece in _windows(path, content, tokenizer, window):
        windows.append(piece)
        scored += sum(piece.scored)
        if tokens is not None and scored >= tokens:
            break
    if scored < MIN_SCORED:
        raise TextError(
            "too little text to measure a loss",
            where=path,
            expected=f"at least {MIN_SCORED} scored tokens",
            found=scored,
            hint="Some thousands of tokens give a useful interval.",
        )
    return HeldOutText(tuple(windows), path.name, content[:20_000])


def _windows(
    path: Path, content: str, tokenizer: PreTrainedTokenizerBase, window: int
) -> Iterator[Window]:
    if path.suffix.lower() not in _JSONL:
        ids = _encoded(tokenizer, content)
        yield from _cut(ids, [True] * len(ids), window)
        return
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            ids, scored = tokenized_row(parsed_row(path, number, line), path, number, tokenizer)
            yield from _cut(ids, scored, window)


def parsed_row(path: Path, number: int, line: str) -> dict[str, Any]:
    """A line of JSONL as an object.

    Raises:
        TextError: It is none; with the line's number.
    """
    where = f"{path}, line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TextError("not a line of JSON", where=where, found=str(error)[:120]) from error
    if not isinstance(row, dict):
        raise TextError("not a JSON object", where=where, found=type(row).__name__)
    return row


def tokenized_row(
    row: dict[str, Any], path: Path, number: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    """Token ids of a row of text, prompt and completion, or chat; and which are scored.

    Raises:
        TextError: It holds no text, or its chat cannot be rendered; with the line's number.
    """
    where = f"{path}, line {number}"
    if isinstance(row.get("messages"), list):
        return _tokenized_chat(row["messages"], where, tokenizer)
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        prompt = _encoded(tokenizer, row["prompt"])
        ids = _encoded(tokenizer, row["prompt"] + row["completion"])
        kept = _common(prompt, ids)
        return ids, [number >= kept for number in range(len(ids))]
    if isinstance(row.get("text"), str):
        ids = _encoded(tokenizer, row["text"])
        return ids, [True] * len(ids)
    raise TextError(
        "no text in this row",
        where=where,
        expected='"text", "prompt" and "completion", or "messages"',
        found=", ".join(sorted(map(str, row)))[:120] or "an empty object",
    )


def _tokenized_chat(
    messages: list[Any], where: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    """A rendered chat; what follows a generation prompt up to the end of that turn is scored."""
    if not tokenizer.chat_template:
        raise TextError(
            "the tokenizer has no chat template",
            where=where,
            hint='Use rows with "text", or a model with a chat template.',
        )
    for message in messages:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise TextError("not a chat message", where=where, expected='"role" and "content"')
    ids = _rendered(tokenizer, messages, where)
    scored = [False] * len(ids)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _common(_rendered(tokenizer, messages[:turn], where, prompt=True), ids)
        stop = _common(_rendered(tokenizer, messages[: turn + 1], where), ids)
        scored[start:stop] = [True] * (stop - start)
    return ids, scored


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: list[Any], where: str, *, prompt: bool = False
) -> list[int]:
    from jinja2 import TemplateError

    if not messages:
        return []
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        raise TextError(
            "the chat template refuses this row", where=where, found=str(error)[:120]
        ) from error
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, verbose=False)["input_ids"])


def _common(first: list[int], second: list[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _cut(ids: list[int], scored: list[bool], window: int) -> Iterator[Window]:
    """Windows of at most `window` tokens in which something is scored."""
    for start in range(0, len(ids), window):
        flags = [False, *scored[start + 1 : start + window]]
        if any(flags):
            yield Window(tuple(ids[start : start + window]), tuple(flags))
