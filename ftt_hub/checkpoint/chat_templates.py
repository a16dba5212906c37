"""The chat templates of a model, in their four forms and in transformers' order of precedence.

A tokenizer takes `chat_template.jinja` and the folder `additional_chat_templates`, else the key
``chat_template`` of `tokenizer_config.json` (`PreTrainedTokenizerBase.from_pretrained`). A
processor takes the key of `processor_config.json`, else `chat_template.json`, else the files
(`ProcessorMixin.get_processor_dict`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from ftt_hub.support.model_files import (
    LEGACY_TEMPLATE,
    TEMPLATE,
    TEMPLATE_FOLDER,
    TOKENIZER_CONFIG,
)

PROCESSOR_CONFIG = "processor_config.json"
KEY = "chat_template"

Read = Callable[[str], bytes | None]
"""Reads a file of the model by its path, ``None`` when there is none."""
Templates = Mapping[str, str]
"""Name → template; a single one is called ``default``."""


def _key_of(read: Read, path: str) -> Templates:
    """The templates under the key of a JSON file; none where it is missing or malformed."""
    try:
        value = json.loads(read(path) or b"{}")
    except (ValueError, RecursionError):
        return {}
    found = value.get(KEY) if isinstance(value, dict) else None
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, dict):
        return {str(name): str(text) for name, text in found.items()}
    items = found if isinstance(found, list) else []
    named = [item for item in items if isinstance(item, dict) and "name" in item]
    return {str(item["name"]): str(item.get("template")) for item in named}


def _in_files(read: Read, paths: Iterable[str]) -> Templates:
    """`chat_template.jinja` and the templates of the folder."""
    named = {PurePosixPath(p).stem: p for p in paths if p.startswith(f"{TEMPLATE_FOLDER}/")}
    texts = {name: read(path) for name, path in {**named, "default": TEMPLATE}.items()}
    return {name: data.decode("utf-8", "replace") for name, data in texts.items() if data}


def tokenizer_templates(read: Read, paths: Iterable[str]) -> Templates:
    """The chat templates that a model's tokenizer uses.

    Args:
        read: Reads its files.
        paths: Of its companions.
    """
    return _in_files(read, paths) or _key_of(read, TOKENIZER_CONFIG)


def processor_templates(read: Read, paths: Iterable[str]) -> Templates:
    """The chat templates that a model's processor uses."""
    own = _key_of(read, PROCESSOR_CONFIG)
    return own or _key_of(read, LEGACY_TEMPLATE) or _in_files(read, paths)


def has_templates(read: Read, paths: Iterable[str]) -> bool:
    """Whether a model has a chat template in any form."""
    paths = list(paths)
    return bool(tokenizer_templates(read, paths) or processor_templates(read, paths))


def without_template(data: bytes) -> bytes:
    """A JSON config without its chat template; unchanged when it has none or is malformed."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(value, dict) or value.pop(KEY, None) is None:
        return data
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
