"""Inspections that were made before, so that transformers need not be imported again.

``HF_HOME/ftt-hub/architectures`` holds one small JSON file per config, set of names and version of
transformers. A file that does not satisfy the schema is read as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ftt_hub.checkpoint.meta_model import text_of
from ftt_hub.errors import FttError
from ftt_hub.hub.kept import cache_folder
from ftt_hub.support.json_schema import validate
from ftt_hub.support.staging import write_atomic
from ftt_hub.version import __version__

MAX_FILE_BYTES = 16 << 20
MAX_FILES = 512


def _version() -> str | None:
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return None


def _path(config: Mapping[str, Any], names: Sequence[str]) -> Path:
    key = json.dumps([__version__, _version(), text_of(config), list(names)])
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return cache_folder("architectures") / f"{digest}.json"


def read(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """The inspection that was kept for a config and the names stored with it, or ``None``."""
    try:
        path = _path(config, names)
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        return validate(json.loads(path.read_bytes()), "inspection", str(path))
    except (OSError, ValueError, FttError):  # none, or not one that can be trusted
        return None


def write(config: Mapping[str, Any], names: Sequence[str], value: Mapping[str, Any]) -> None:
    """Keep an inspection; where it cannot be written, it is made again next time."""
    with contextlib.suppress(OSError, FttError):
        path = _path(config, names)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(value, sort_keys=True).encode())
        _prune(path.parent)


def _prune(folder: Path) -> None:
    """Let the oldest files go where there are too many."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MAX_FILES]:
        path.unlink(missing_ok=True)
