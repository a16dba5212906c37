"""The small files of the fine-tuned model that travel with Δ; docs/files.md says which and why."""

from __future__ import annotations

import re
from pathlib import Path

from ftt_hub.artifact.stored_files import stored_name
from ftt_hub.checkpoint.chat_templates import processor_templates, tokenizer_templates
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.remote_code import code_files
from ftt_hub.errors import CheckpointError
from ftt_hub.support.model_files import (
    GENERATION_CONFIG,
    TOKENIZER_CONFIG,
    is_processor,
    is_template,
    is_tokenizer,
    may_be_tokenizer,
)
from ftt_hub.support.warn import warn_caller
from ftt_hub.tensors.header import parse_json

_FLAT = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$")
_ABOUT = frozenset(("transformers_version", "processor_class", "name_or_path", "_name_or_path"))
"""Keys that change nothing."""


def _value(data: bytes, name: str) -> object:
    """A JSON file's value without keys that change nothing; its bytes where it is malformed."""
    try:
        value = parse_json(data, name, special_floats=True)
    except CheckpointError:
        return data
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if key not in _ABOUT}


def _differs(name: str, source: ModelHeaders, tuned: ModelHeaders) -> bool:
    theirs = tuned.small_file(name)
    if theirs is None:
        return False
    ours = source.small_file(name)
    if ours is None or ours == theirs or not name.endswith(".json"):
        return ours != theirs
    return _value(ours, name) != _value(theirs, name)


def _tokenizer(source: ModelHeaders, tuned: ModelHeaders) -> list[str]:
    """All files of the tokenizer when one differs; they belong together.

    A file that may be something else (such as a list of labels) counts when both models have it.
    """
    names = [n for n in tuned.companions if may_be_tokenizer(n)]
    names = [n for n in names if is_tokenizer(n) or n in source.companions]
    return names if any(_differs(name, source, tuned) for name in names) else []


def _processors(source: ModelHeaders, tuned: ModelHeaders) -> list[str]:
    """All processor configs when one differs.

    Versions of transformers write them under other names: a file that only the fine-tuned model
    has counts where the source base has none at all.
    """
    mine, theirs = ([n for n in m.companions if is_processor(n)] for m in (source, tuned))
    compared = [n for n in theirs if n in mine] if mine else theirs
    return theirs if any(_differs(name, source, tuned) for name in compared) else []


def _templates(source: ModelHeaders, tuned: ModelHeaders) -> list[str]:
    """All template files when the tokenizer or the processor uses another template."""
    same = all(
        of(source.small_file, source.companions) == of(tuned.small_file, tuned.companions)
        for of in (tokenizer_templates, processor_templates)
    )
    return [] if same else [n for n in tuned.companions if is_template(n)]


def travelling_files(source: ModelHeaders, tuned: ModelHeaders) -> dict[str, bytes]:
    """The fine-tuned model's files that differ from the source base's, by path.

    Tokenizer, processors, chat templates and generation config; of code only what the tokenizer's
    or a processor's config names. Templates go along with a tokenizer or processor, for what these
    say of templates depends on the files beside them.
    """
    tokenizer, processors = _tokenizer(source, tuned), _processors(source, tuned)
    templates = _templates(source, tuned)
    if TOKENIZER_CONFIG in tokenizer or processors:
        templates = [n for n in tuned.companions if is_template(n)]
    names = [*tokenizer, *processors, *templates]
    if _differs(GENERATION_CONFIG, source, tuned):
        names.append(GENERATION_CONFIG)
    read = {name: tuned.small_file(name) for name in dict.fromkeys(names)}
    files = {name: data for name, data in read.items() if data is not None}
    files.update(code_files(tuned.small_file, [n for n in files if n.endswith("_config.json")]))
    return _storable(files, tuned.label)


def _storable(files: dict[str, bytes], label: str) -> dict[str, bytes]:
    """The files whose names an adapter can hold; warns of the others."""
    strange = sorted(path for path in files if not _FLAT.match(stored_name(path)))
    if strange:
        warn_caller(
            f"{label}: left out of the adapter, for their names cannot be stored: "
            f"{', '.join(strange)[:200]}"
        )
    return {path: data for path, data in files.items() if path not in strange}


def write_travelling(folder: Path, files: dict[str, bytes]) -> None:
    """Write them into an adapter folder, which has no subfolders."""
    for path, data in files.items():
        (folder / stored_name(path)).write_bytes(data)
