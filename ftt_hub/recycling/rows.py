"""Rows of training text as tokens with labels, in one Arrow file that every process maps."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import RecycleError
from ftt_hub.loss.text import parsed_row, tokenized_row
from ftt_hub.recycling.recipe import Data
from ftt_hub.support.paths import PathLike
from ftt_hub.support.staging import staged_folder, write_atomic, writing

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_IGNORED = -100
"""The label that the loss leaves out."""

_JSONL = (".jsonl", ".ndjson", ".json")
_ROWS, _FACTS = "rows.arrow", "facts.json"


@dataclass(frozen=True)
class Rows:
    """Tokenized rows on disk.

    Attributes:
        path: The Arrow file.
        count: Rows in it.
        tokens: Tokens with a label.
        cut: Rows that were longer than the sequence length.
        dropped: Rows left out, because nothing in them is scored within that length.
    """

    path: Path
    count: int
    tokens: int
    cut: int
    dropped: int

    def open(self) -> Dataset:
        """The rows, mapped into memory."""
        from datasets import Dataset

        return Dataset.from_file(str(self.path))

    def summary(self, length: int) -> str:
        """The rows in half a line; `length` is the sequence length in tokens."""
        cut = f", {self.cut} cut at {length}" if self.cut else ""
        dropped = f", {self.dropped} without anything to learn left out" if self.dropped else ""
        return f"{self.count} rows, {self.tokens} tokens to learn{cut}{dropped}"


def fetch(data: Data, out: Path) -> tuple[Path, Path | None]:
    """Training and held-out rows as files: those of the recipe, or a dataset written as JSONL.

    Raises:
        RecycleError: There is no such dataset, configuration or split, or it is empty.
    """
    train = _file(data, data.train, data.split, out / "train.jsonl")
    if data.validation is not None:
        split = data.validation_split or data.split
        return train, _file(data, data.validation, split, out / "validation.jsonl")
    if data.validation_split is not None:
        return train, _file(data, data.train, data.validation_split, out / "validation.jsonl")
    return train, None


def _file(data: Data, source: PathLike, split: str, out: Path) -> Path:
    if isinstance(source, Path) and source.is_file():
        return source
    mark = out.with_suffix(".source.json")
    origin = json.dumps([str(source), data.config, data.revision, split]).encode()
    if out.is_file() and mark.is_file() and mark.read_bytes() == origin:
        return out
    from datasets import DownloadMode, load_dataset
    from datasets.exceptions import DatasetGenerationError

    name = f"{source}, split {split}"
    try:
        dataset = load_dataset(
            str(source),
            data.config,
            split=split,
            revision=data.revision,
            cache_dir=str(out.parent / "cache"),
            download_mode=DownloadMode.REUSE_CACHE_IF_EXISTS,
        )
    except DatasetGenerationError as error:
        cause = error.__cause__ or error
        raise RecycleError(
            "the dataset cannot be read", where=name, found=str(cause)[:200]
        ) from error
    except (ValueError, OSError) as error:  # no such dataset, configuration or split; offline
        raise RecycleError("no such dataset", where=name, found=str(error)[:200]) from error
    if len(dataset) == 0:
        raise RecycleError("the split is empty", where=name)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    with writing(out):
        dataset.to_json(str(partial), force_ascii=False)
        partial.replace(out)
    shutil.rmtree(out.parent / "cache", ignore_errors=True)
    write_atomic(mark, origin)
    return out


def rows_key(start: Path, digest: str, length: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Identifies tokenized rows: the same key means the same tokens and labels.

    Args:
        start: Folder of the tokenizer.
        digest: sha256 of the file of rows.
        length: Sequence length in tokens.
        tokenizer: The tokenizer, with its chat template.
    """
    key = hashlib.sha256()
    for text in (digest, str(length), tokenizer.chat_template):
        key.update(f"{text}\0".encode())
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
        if (start / name).is_file():
            key.update((start / name).read_bytes())
    return key.hexdigest()[:16]


def tokenize(source: Path, tokenizer: PreTrainedTokenizerBase, out: Path, *, length: int) -> Rows:
    """Tokenize a file of rows, once: an earlier result in `out` is taken as it is.

    What is scored is what :func:`ftt_hub.loss.read_text` scores: completions, what the assistant
    says, or all of a plain text, whose paragraphs are rows. Text and completions end with the
    tokenizer's end-of-text token; chats end as their template says.

    Raises:
        TextError: A row cannot be parsed, or there is no chat template; with the line's number.
        RecycleError: No row is left.
        OutputError: The disk is full.
    """
    if not (out / _FACTS).is_file():
        with staged_folder(out) as folder:
            facts = _write(source, tokenizer, folder / _ROWS, length)
            (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return read_rows(out)


def _write(
    source: Path, tokenizer: PreTrainedTokenizerBase, out: Path, length: int
) -> dict[str, int]:
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    ids_of = List(Value("int32"))
    count = tokens = cut = dropped = 0
    features = Features({"input_ids": ids_of, "labels": ids_of})
    with ArrowWriter(path=str(out), features=features, writer_batch_size=1000) as writer:
        for ids, scored in _tokenized(source, tokenizer):
            cut += len(ids) > length
            labels = [i if kept else _IGNORED for i, kept in zip(ids, scored, strict=True)][:length]
            kept = sum(label != _IGNORED for label in labels[1:])
            if not kept:
                dropped += 1
                continue
            count, tokens = count + 1, tokens + kept
            writer.write({"input_ids": ids[:length], "labels": labels})
        if count:
            writer.finalize()
    if not count:
        raise RecycleError(
            "the split is empty" if not dropped else "no row has anything to learn in it",
            where=source,
            expected="at least one row",
            found=f"{dropped} rows without any token that is scored within {length}"
            if dropped
            else None,
        )
    return {"count": count, "tokens": tokens, "cut": cut, "dropped": dropped}


def _tokenized(
    source: Path, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[int], list[bool]]]:
    end = tokenizer.eos_token_id
    for number, row in _rows(source):
        ids, scored = tokenized_row(row, source, number, tokenizer)
        if "messages" not in row and isinstance(end, int) and ids[-1:] != [end]:
            ids, scored = [*ids, end], [*scored, True]
        yield ids, scored


def _rows(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row, read a line at a time."""
    try:
        with source.open(encoding="utf-8-sig") as file:
            if source.suffix.lower() not in _JSONL:
                yield from _paragraphs(file)
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, parsed_row(source, number, line)
    except OSError as error:
        raise RecycleError("cannot read the rows", where=source, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise RecycleError(
            "the rows are not UTF-8",
            where=source,
            found=f"byte {error.start}",
            hint="Convert the file with iconv.",
        ) from error


def _paragraphs(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    first, paragraph = 1, ""
    for number, line in enumerate(lines, 1):
        if line.strip():
            first = first if paragraph else number
            paragraph += line
        elif paragraph:
            yield first, {"text": paragraph.strip()}
            paragraph = ""
    if paragraph:
        yield first, {"text": paragraph.strip()}


def read_rows(folder: Path) -> Rows:
    """The rows that `tokenize` wrote into a folder."""
    return Rows(folder / _ROWS, **json.loads((folder / _FACTS).read_bytes()))
