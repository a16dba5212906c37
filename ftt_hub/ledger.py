"""An adapter in a registry: what a push would do, its versions, what is outdated, evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ftt_hub.config import read_config
from ftt_hub.container.folder import CARD_NAME, check_adapter
from ftt_hub.errors import RefError
from ftt_hub.refs import Ref, parse_ref, version_tag
from ftt_hub.registry.abc import Preview, Version
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.evaluations import EvaluationResult, results_from
from ftt_hub.registry.readme import Deprecation, clean_reason, evaluated_card, split_card
from ftt_hub.staging import write_atomic

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


def record_evaluations(
    adapter: PathLike, results: Sequence[EvaluationResult], *, registry: PathLike | None = None
) -> bool:
    """Add evaluation results to an adapter's card; its content and digest stay as they are.

    A result of the same task, dataset, metric, target and scale is replaced.

    Args:
        adapter: A folder, before it is published, or ``namespace/name``: the card on main.
        results: What was measured.
        registry: ``"hf"`` or a folder.

    Returns:
        False when the card has them already.

    Raises:
        RefError: It names nothing, or a revision: published revisions never change.
        RegistryError: The registry refuses.
        OutputError: The card cannot be written.
    """
    ref = parse_ref(adapter)
    if ref.folder is None:
        if ref.revision not in (None, "main"):
            raise RefError("only main's card can gain results", where=ref, expected=ref.name)
        return choose_registry(registry).add_results(ref.name or "", results)
    name = read_config(ref.folder).fine_tuned.id.rsplit("/", 1)[-1]
    path = ref.folder / CARD_NAME
    data = path.read_bytes() if path.is_file() else b""
    if set(results) <= set(results_from(split_card(data)[0])):
        return False
    write_atomic(path, evaluated_card(data, name, results))
    return True


def _registered(text: str) -> Ref:
    ref = parse_ref(text)
    if ref.name is None:
        raise RefError(
            "a folder has no versions", where=text, expected="namespace/name in a registry"
        )
    return ref
