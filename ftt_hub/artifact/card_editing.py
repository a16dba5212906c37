"""The card of a published adapter: the one place where a registry writes what it knows itself.

Push fills in the real name, and keeps in the front matter, under ``ftt_hub``, the versions and
which of them are deprecated::

    ftt_hub:
      versions: [v1.1.0, v1.0.0]
      deprecated:
        v1.0.0: {reason: trained on a bad split, successor: v1.1.0}

The Hub hands front matter out in its listings, so browsing needs no further request for it. A card
is written by anyone: whatever does not have this form is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ftt_hub.artifact.card_results import EvaluationResult, with_results
from ftt_hub.support.refs import is_version_tag, version_key

CARD_NAME = "README.md"
UNPUBLISHED = "your-namespace"
KEY = "ftt_hub"
BARE_FRONT: Mapping[str, Any] = {
    "library_name": "ftt-hub",
    "tags": ["ftt-hub", "transfer-adapter"],
}
SCALES = "recommended_scales"
MAX_CARD_BYTES = 1 << 20
MAX_REASON = 300
_MAX_VERSIONS = 10_000
_FRONT = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_UNPUBLISHED_NAME = re.compile(re.escape(UNPUBLISHED) + r"/[A-Za-z0-9._-]*[A-Za-z0-9_-]")


@dataclass(frozen=True)
class Deprecation:
    """Why a version should no longer be used, and what to use instead, if known."""

    reason: str
    successor: str | None = None

    def notice(self, ref: str) -> str:
        """The warning for users of the version, in one line."""
        instead = f"; use {self.successor} instead" if self.successor else ""
        return f"{ref} is deprecated: {self.reason}{instead}"


@dataclass(frozen=True)
class History:
    """What a card says of versions.

    Attributes:
        versions: Version tags, newest first.
        deprecated: Version tag → why.
    """

    versions: tuple[str, ...] = ()
    deprecated: Mapping[str, Deprecation] = field(default_factory=dict)

    @property
    def shown(self) -> str | None:
        """The newest version that is not deprecated, else the newest."""
        alive = (tag for tag in self.versions if tag not in self.deprecated)
        return next(alive, self.versions[0] if self.versions else None)

    def to_json(self) -> dict[str, Any]:
        """The form in the front matter."""
        value: dict[str, Any] = {"versions": list(self.versions)}
        if self.deprecated:
            value["deprecated"] = {
                tag: {"reason": d.reason, **({"successor": d.successor} if d.successor else {})}
                for tag, d in sorted(self.deprecated.items())
            }
        return value


def sorted_versions(tags: object) -> tuple[str, ...]:
    """The version tags among `tags`, newest first."""
    if not isinstance(tags, list | tuple | set | dict) or len(tags) > _MAX_VERSIONS:
        return ()
    versions = {tag for tag in tags if isinstance(tag, str) and is_version_tag(tag)}
    return tuple(sorted(versions, key=version_key, reverse=True))


def _deprecation(value: object) -> Deprecation | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("reason"), str):
        return None
    successor = value.get("successor")
    valid = isinstance(successor, str) and is_version_tag(successor)
    return Deprecation(clean_reason(value["reason"]), successor if valid else None)


def clean_reason(text: str) -> str:
    """A reason as one printable line."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 2 * MAX_REASON])
    return " ".join(printable.split())[:MAX_REASON]


def deprecations_from(value: object) -> dict[str, Deprecation]:
    """Version tag → its deprecation, from an unchecked value."""
    if not isinstance(value, Mapping) or len(value) > _MAX_VERSIONS:
        return {}
    found = {str(tag): _deprecation(item) for tag, item in value.items() if is_version_tag(tag)}
    return {tag: item for tag, item in found.items() if item is not None}


def history_from(front: Mapping[str, Any] | None) -> History | None:
    """What a card's front matter says of versions, ``None`` when it says nothing of them."""
    value = None if front is None else front.get(KEY)
    if not isinstance(value, Mapping) or not isinstance(value.get("versions"), list):
        return None
    return History(sorted_versions(value["versions"]), deprecations_from(value.get("deprecated")))


@cache
def _loader() -> type[Any]:
    """YAML as the Hub reads it: `no` is Norwegian and not False, a date is a text."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
            first: [
                (tag, pattern)
                for tag, pattern in resolvers
                if not tag.endswith(":timestamp") and (not tag.endswith(":bool") or first in "tTfF")
            ]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader


def split_card(data: bytes) -> tuple[dict[str, Any], str]:
    """Front matter and body of a card; what is not YAML counts as none."""
    import yaml

    text = data[:MAX_CARD_BYTES].decode("utf-8", "replace")
    match = _FRONT.match(text)
    if match is None:
        return {}, text
    try:
        front = yaml.load(match[1], Loader=_loader())
    except (yaml.YAMLError, ValueError, RecursionError):
        front = None
    return (front, text[match.end() :]) if isinstance(front, dict) else ({}, text[match.end() :])


def published_card(data: bytes | None, name: str, history: History) -> bytes:
    """The card to publish: the real name where it was unknown, and the versions.

    Args:
        data: The card of the folder, ``None`` when it has none.
        name: ``namespace/name`` it is published as.
        history: Versions and deprecations, this one included.
    """
    front, body = split_card(data or b"")
    if not front:
        front = dict(BARE_FRONT)
    said = front.get(KEY)
    front = {key: item for key, item in front.items() if key != KEY}
    kept: dict[str, Any] = {}
    if isinstance(said, Mapping) and isinstance(said.get(SCALES), list):
        kept[SCALES] = said[SCALES]
    if history.versions or history.deprecated:
        kept.update(history.to_json())
    if kept:
        front[KEY] = kept
    return joined_card(front, _UNPUBLISHED_NAME.sub(lambda _: name, body))


def joined_card(front: Mapping[str, Any], body: str) -> bytes:
    """A card of front matter and body, the reverse of `split_card`."""
    import yaml

    header = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n{body if body.startswith(chr(10)) else chr(10) + body}".encode()


def evaluated_card(data: bytes | None, name: str, results: Iterable[EvaluationResult]) -> bytes:
    """A card with these evaluation results added; its body and the rest stay as they are.

    Args:
        data: The card, ``None`` when there is none.
        name: What the results are of.
        results: What was measured.
    """
    front, body = split_card(data or b"")
    return joined_card(with_results(front or BARE_FRONT, name, results), body)
