"""Versions of an adapter in a registry: what a push would do, what there is, what is outdated."""

from __future__ import annotations

from pathlib import Path

from ftt_hub.container.folder import check_adapter
from ftt_hub.errors import RefError
from ftt_hub.refs import Ref, parse_ref, version_tag
from ftt_hub.registry.abc import Preview, Version
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.readme import Deprecation, clean_reason

PathLike = str | Path


def preview(
    folder: PathLike, name: str, *, version: str | None = None, registry: PathLike | None = None
) -> Preview:
    """What `publish` would send, after the same checks; changes nothing.

    Raises:
        IntegrityError: The folder is damaged.
        VersionExistsError: The version exists with other content.
    """
    check_adapter(Path(folder))
    return choose_registry(registry).preview(Path(folder), name, version=version)


def versions(name: str, *, registry: PathLike | None = None) -> tuple[Version, ...]:
    """The published versions of an adapter, newest first.

    Args:
        name: ``namespace/name``.
        registry: ``"hf"`` or a folder.

    Raises:
        RefError: No such adapter.
        RegistryError: The registry refuses.
    """
    return choose_registry(registry).versions(_registered(name).name or "")


def deprecate(
    ref: str,
    reason: str,
    *,
    successor: str | None = None,
    registry: PathLike | None = None,
) -> bool:
    """Mark a version as one that should no longer be used; it still loads, with a warning.

    Args:
        ref: ``namespace/name@v1.0.0``.
        reason: Why, in one line.
        successor: The version to use instead; default the newest that is not deprecated.
        registry: ``"hf"`` or a folder.

    Returns:
        False when it was marked so already.

    Raises:
        RefError: No such adapter or version.
        RegistryError: The registry refuses.
    """
    parsed = _registered(ref)
    if parsed.revision is None or not clean_reason(reason):
        raise RefError(
            "a deprecation needs a version and a reason", where=ref, expected="NAME@vX.Y.Z"
        )
    name, tag, chosen = parsed.name or "", version_tag(parsed.revision), choose_registry(registry)
    known = chosen.versions(name)
    others = (v.tag for v in known if v.deprecated is None and v.tag != tag)
    instead = next(others, None) if successor is None else version_tag(successor)
    if instead == tag or (successor is not None and instead not in {v.tag for v in known}):
        raise RefError("no such successor", where=ref, expected="another version", found=successor)
    return chosen.deprecate(name, tag, Deprecation(clean_reason(reason), instead))


def _registered(text: str) -> Ref:
    ref = parse_ref(text)
    if ref.name is None:
        raise RefError(
            "a folder has no versions", where=text, expected="namespace/name in a registry"
        )
    return ref
