"""`deprecate`: mark a published version as one that should no longer be used."""

from __future__ import annotations

from ftt_hub.artifact.card_editing import Deprecation, clean_reason
from ftt_hub.errors import RefError
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.open import registered_name
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import version_tag


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
    parsed = registered_name(ref)
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
