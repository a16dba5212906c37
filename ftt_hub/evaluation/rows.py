"""A JSONL file as a task: completions to be predicted, or choices to choose from.

============================================  ==================================================
row                                           what is measured
============================================  ==================================================
``{"prompt": …, "completion": …}``            ``acc``: greedy decoding gives exactly the
                                              completion; ``perplexity`` of the completion
``{"prompt": …, "choices": […], "answer": …}``  ``acc``, ``acc_norm``: the likeliest choice (by
                                              character) is the answer, an index or one of them
============================================  ==================================================

A file has rows of one kind. A completion follows its prompt as it is, a choice after a space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftt_hub.errors import TaskError

SUFFIXES = (".jsonl", ".ndjson")
Row = dict[str, Any]


@dataclass(frozen=True)
class RowFile:
    """A task in a JSONL file.

    Attributes:
        path: The file.
        rows: Its rows, checked; an answer is an index.
        is_choice: Whether the rows are multiple choice.
        sha256: Digest of the file.
    """

    path: Path
    rows: tuple[Row, ...]
    is_choice: bool
    sha256: str

    def config(self, name: str) -> dict[str, Any]:
        """The harness's configuration of this task."""
        return {
            "task": name,
            "custom_dataset": self._dataset,
            "test_split": "test",
            "doc_to_text": "prompt",
            "num_fewshot": 0,
            **(_CHOICE if self.is_choice else _COMPLETION),
        }

    def _dataset(self, **_: object) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(list(self.rows))}


_COMPLETION = {
    "output_type": "loglikelihood",
    "doc_to_target": "completion",
    "target_delimiter": "",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
    ],
}
_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "target_delimiter": " ",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}


def read_rows(path: Path) -> RowFile:
    """Read and check a JSONL file.

    Raises:
        TaskError: Missing, not UTF-8, without rows, or a row (named by its line) is of no kind.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise TaskError("cannot read the task", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise TaskError("the task is not UTF-8", where=path, found=f"byte {error.start}") from error
    rows = list(_rows(path, text))
    if not rows:
        raise TaskError("no rows", where=path, expected="one JSON object per line")
    kinds = {"choices" in row for _, row in rows}
    if len(kinds) > 1:
        first = "choices" in rows[0][1]
        number = next(n for n, row in rows if ("choices" in row) is not first)
        raise TaskError(
            "rows of two kinds",
            where=f"{path}, line {number}",
            expected="choices" if first else "completion",
            hint="Put completions and choices into files of their own.",
        )
    return RowFile(
        path, tuple(row for _, row in rows), kinds.pop(), hashlib.sha256(data).hexdigest()
    )


def _rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError("not a line of JSON", where=where, found=str(error)[:120]) from error
        if not isinstance(row, dict):
            raise TaskError("not a JSON object", where=where, found=type(row).__name__)
        yield number, _checked(row, where)


def _checked(row: Row, where: str) -> Row:
    if not isinstance(row.get("prompt"), str):
        raise TaskError(
            "no prompt in this row",
            where=where,
            expected='"prompt" with "completion", or with "choices" and "answer"',
            found=", ".join(sorted(map(str, row)))[:120] or "an empty object",
        )
    if "choices" in row:
        choices = row["choices"]
        if not _are_texts(choices):
            raise TaskError("not choices", where=where, expected="at least two different texts")
        return {
            "prompt": row["prompt"],
            "choices": choices,
            "answer": _index(row.get("answer"), choices, where),
        }
    if not (isinstance(row.get("completion"), str) and row["completion"]):
        raise TaskError("no completion in this row", where=where, expected="a text")
    return {"prompt": row["prompt"], "completion": row["completion"]}


def _are_texts(value: object) -> bool:
    texts = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
    return texts and isinstance(value, list) and len(set(value)) == len(value) >= 2


def _index(answer: object, choices: list[str], where: str) -> int:
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise TaskError(
        "the answer is not one of the choices",
        where=where,
        expected=f"an index below {len(choices)}, or a choice",
        found=repr(answer)[:80],
    )
