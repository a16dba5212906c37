"""Which code files a tokenizer or processor config needs; they are named and copied, never run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator

MAX_FILES = 32
_LOCAL = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)\.[A-Za-z_][A-Za-z0-9_.]*$")
_IMPORTS = re.compile(
    rb"^[ \t]*(?:import[ \t]+\.(\w+)[ \t]*$|from[ \t]+\.(\w+)[ \t]+import)", re.MULTILINE
)
"""Relative imports, as `transformers.dynamic_module_utils.get_relative_imports` has them."""

Read = Callable[[str], bytes | None]
"""Reads a file of the model by its path, ``None`` when there is none."""


def _references(value: object) -> Iterator[str]:
    """All strings of an `auto_map`, whose values are names, or lists of names and None."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(item)


def _modules(read: Read, path: str) -> list[str]:
    """Modules of the model's own folder that a config's `auto_map` names."""
    try:
        value = json.loads(read(path) or b"{}")
    except (ValueError, RecursionError):
        return []
    named = _references(value.get("auto_map")) if isinstance(value, dict) else ()
    return [match[1] for name in named if (match := _LOCAL.match(name))]


def code_files(read: Read, configs: Iterable[str]) -> dict[str, bytes]:
    """The code that configs name, and what that code imports relatively, by file name.

    Args:
        read: Reads a file of the model.
        configs: Paths of configs that may have an `auto_map`.
    """
    waiting = [module for path in configs for module in _modules(read, path)]
    found: dict[str, bytes] = {}
    while waiting and len(found) < MAX_FILES:
        name = f"{waiting.pop()}.py"
        data = None if name in found else read(name)
        if data is None:
            continue
        found[name] = data
        waiting += [(a or b).decode() for a, b in _IMPORTS.findall(data)]
    return dict(sorted(found.items()))
