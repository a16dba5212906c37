"""Companion files inside an adapter folder, which is flat: how their paths are stored there."""

from __future__ import annotations

from collections.abc import Mapping

from ftt_hub.support.model_files import (
    MAX_COMPANION_BYTES,
    TEMPLATE_FOLDER,
    is_code,
    is_companion,
    travels,
)

_SEPARATOR = "--"


def stored_name(path: str) -> str:
    """The flat name of a companion: ``additional_chat_templates--tool_use.jinja``."""
    return path.replace("/", _SEPARATOR)


def _path(name: str) -> str:
    prefix = TEMPLATE_FOLDER + _SEPARATOR
    return f"{TEMPLATE_FOLDER}/{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def stored_companions(files: Mapping[str, Mapping[str, int | str]]) -> dict[str, str]:
    """Path in a model folder → name in the adapter, of the companions that a manifest lists.

    A manifest may come from anybody: configs, weights and files of other kinds are no companions,
    whatever it lists, nor are files of more than `MAX_COMPANION_BYTES`.
    """
    paths = {_path(name): name for name in files}
    return {
        path: name
        for path, name in paths.items()
        if (travels(path) or (is_code(path) and is_companion(path)))
        and int(files[name]["size"]) <= MAX_COMPANION_BYTES
    }
