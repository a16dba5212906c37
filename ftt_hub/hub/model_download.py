"""A model from the Hub into its cache: the files that transformers would fetch, and no others."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from pathlib import Path

from ftt_hub.errors import CheckpointError
from ftt_hub.hub.client import api
from ftt_hub.hub.failures import answered
from ftt_hub.hub.kept import keep, kept
from ftt_hub.hub.ranges import read_file
from ftt_hub.hub.reading import RemoteFile, describe, is_offline
from ftt_hub.support.model_files import (
    CONFIG,
    MAX_COMPANION_BYTES,
    MAX_COMPANIONS,
    chosen_weights,
    is_companion,
)
from ftt_hub.support.no_weights import no_weights
from ftt_hub.tensors.header import parse_json
from ftt_hub.tensors.weight_index import check_explicit_weights, checked_weight_map

MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20
_SELECTION = ".ftt-hub/model-files.json"
"""The name under which the choice for a commit is kept; no repository has such a file."""


def _json(name: str, commit: str, filename: str, limit: int) -> object:
    data = read_file(name, commit, filename, limit)
    where = f"{name}/{filename}"
    if data is None or len(data) > limit:
        raise CheckpointError(
            "missing" if data is None else "too large", where=where, expected=f"≤ {limit} bytes"
        )
    return parse_json(data, where, special_floats=True)


def weights_of(
    name: str, commit: str, files: Mapping[str, RemoteFile], config: Mapping[str, object]
) -> tuple[str | None, dict[str, str]]:
    """The file of weights that transformers loads, or the index, and the index's weight map.

    Args:
        name: ``namespace/name``.
        commit: Commit sha.
        files: What the repository holds.
        config: Its `config.json`.

    Returns:
        ``None`` and no map where there are no weights; no map for a single file.

    Raises:
        CheckpointError: The config or the index is malformed.
        HubError: The Hub does not answer.
    """
    explicit = config.get("transformers_weights")
    check_explicit_weights(explicit, f"{name}/{CONFIG}")
    chosen = chosen_weights(files, explicit)
    if chosen is None or not chosen.endswith(".index.json"):
        return chosen, {}
    index = _json(name, commit, chosen, MAX_INDEX_BYTES)
    return chosen, checked_weight_map(index, f"{name}/{chosen}")


def companions_of(files: Mapping[str, RemoteFile]) -> list[str]:
    """The companion files of a repository, by path, of bounded size and number."""
    found = [
        path
        for path, file in files.items()
        if is_companion(path) and (file.size is None or file.size <= MAX_COMPANION_BYTES)
    ]
    return sorted(found)[:MAX_COMPANIONS]


def _select(name: str, commit: str) -> tuple[list[str], list[str]]:
    """Companions and weights to fetch, from the repository's list of files.

    Raises:
        CheckpointError: It holds no weights that transformers loads.
    """
    files = describe(name, commit).files
    value = _json(name, commit, CONFIG, MAX_CONFIG_BYTES) if CONFIG in files else {}
    config = value if isinstance(value, dict) else {}
    chosen, mapping = weights_of(name, commit, files, config)
    small = [path for path in (CONFIG,) if path in files] + companions_of(files)
    if chosen is None:
        raise no_weights(files, lambda path: read_file(name, commit, path, MAX_CONFIG_BYTES), name)
    return small, [chosen, *sorted(set(mapping.values()) & files.keys())]


def _kept_selection(name: str, commit: str) -> tuple[list[str], list[str]] | None:
    data = kept(name, commit, _SELECTION, 0, 0)
    try:
        value = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    lists = value if isinstance(value, list) and len(value) == 2 else ()
    if not lists or not all(isinstance(part, list) for part in lists):
        return None
    small, weights = ([str(path) for path in part] for part in lists)
    return small, weights


def _fetch(name: str, commit: str, paths: list[str]) -> Path:
    patterns = [glob.escape(path) for path in paths]
    return Path(
        answered(
            name, lambda: api().snapshot_download(name, revision=commit, allow_patterns=patterns)
        )
    )


def download_model(name: str, commit: str) -> Path:
    """A model's config, companions and weights in the Hub cache.

    Which files these are is decided once per commit, and kept. Weights come last, so that a folder
    that has them is complete.

    Raises:
        RefError: No such repository or revision.
        CheckpointError: The config or the index is malformed, or there are no weights.
        HubError: The Hub does not answer, and the cache does not hold the model.
    """
    selection = _kept_selection(name, commit)
    if selection is None and is_offline():
        return _fetch(name, commit, [CONFIG])  # fetched by another program: take what it holds
    if selection is None:
        selection = _select(name, commit)
        keep(name, commit, _SELECTION, 0, json.dumps(selection).encode(), 0)
    small, weights = selection
    if small:
        _fetch(name, commit, small)
    return _fetch(name, commit, weights)
