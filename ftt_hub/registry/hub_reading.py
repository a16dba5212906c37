"""What the Hub tells of an adapter: its manifest, its card, the dates of its versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ftt_hub import hub
from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    MAX_CARD_BYTES,
    History,
    history_from,
    split_card,
)
from ftt_hub.artifact.manifest import CONFIG_NAME, MAX_CONFIG_BYTES, AdapterConfig, parse_config
from ftt_hub.errors import HubError
from ftt_hub.registry.abc import Facts


def read_manifest(name: str, commit: str) -> AdapterConfig | None:
    """The manifest at a commit, by one ranged read; ``None`` when there is none of ours.

    Raises:
        IntegrityError: It is damaged.
        RefError: No such repository or revision.
        HubError: The Hub does not answer.
    """
    data = hub.read_file(name, commit, CONFIG_NAME, MAX_CONFIG_BYTES)
    if data is None or _is_foreign(data):
        return None
    return parse_config(data, f"{name}/{CONFIG_NAME}")


def _is_foreign(data: bytes) -> bool:
    """Whether a manifest is that of another kind of PEFT adapter."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("peft_type") not in (None, "TRANSFER")


def read_front(name: str, revision: str) -> Mapping[str, Any]:
    """Front matter of the card at a revision; empty when there is none."""
    return split_card(hub.read_file(name, revision, CARD_NAME, MAX_CARD_BYTES) or b"")[0]


def read_history(name: str, revision: str) -> History | None:
    """What the card at a revision says of versions, ``None`` when it says nothing."""
    return history_from(read_front(name, revision))


def version_dates(name: str, tag: str) -> dict[str, str]:
    """Commit → date; empty where a server does not tell."""
    try:
        return hub.tag_dates(name, tag)
    except HubError:
        return {}


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def card_facts(card: object) -> Facts | None:
    """What a card tells; ``None`` when it names no base and so is not one of ours."""
    if not isinstance(card, dict):
        return None
    bases = _strings(card.get("base_model"))
    if not bases:
        return None
    licences = _strings(card.get("license_name")) or _strings(card.get("license"))
    return Facts(
        _strings(card.get("language")),
        bases[0],
        _strings(card.get("datasets")),
        licences[0] if licences else None,
    )
