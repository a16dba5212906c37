"""`verify --record`: a verdict is added to the adapter it is about, and found again by browsing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from ftt_hub.artifact.folder import file_digest
from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig, read_config
from ftt_hub.checkpoint.resolve import model_folder
from ftt_hub.errors import IntegrityError, RegistryError
from ftt_hub.registry.abc import Listing, Record, Registry
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.verified import add_to_folder
from ftt_hub.support.json_schema import Json, validate
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Silent
from ftt_hub.support.refs import Ref, parse_ref
from ftt_hub.verdict.report import Verdict

SUMMARY = ("depth", "status", "verdict", "tool")


def record_verdict(
    verdict: Verdict,
    adapter: PathLike,
    target: PathLike,
    *,
    revision: str | None = None,
    registry: PathLike | None = None,
) -> str:
    """Add a verdict to the adapter: `verified/<target-commit>.json` and a line in its card.

    The content that the manifest's digest covers is not touched. On the Hub it is one commit to
    `main`; in a local folder or registry two files change.

    Args:
        verdict: What `verify` returned.
        adapter: The adapter it is about, as it was named there.
        target: The target, as it was named there.
        revision: Revision of the adapter; overrides the one in `adapter`.
        registry: ``"hf"`` or a folder.

    Returns:
        Where the record lies: an address or a path.

    Raises:
        RegistryError: The adapter there is another one, or the registry refuses.
        OutputError: A local folder cannot be written.
    """
    ref, model = parse_ref(adapter, revision=revision), parse_ref(target)
    key = verdict.commit or f"local-{_fingerprint(model)}"
    named = replace(verdict, adapter=_public(ref), target=_public(model))
    text = json.dumps(
        named.to_json(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    validate(json.loads(text), "verdict", "the verdict")
    record = Record(key, f"{text}\n".encode(), _cells(named, key))
    if ref.folder is None:
        return choose_registry(registry).annotate(ref, record)
    published_digest = read_config(ref.folder).content_digest
    if published_digest != verdict.content_digest:
        raise RegistryError(
            "is another adapter than was verified",
            where=ref.folder / CONFIG_NAME,
            expected=verdict.content_digest,
            found=published_digest,
        )
    return add_to_folder(ref.folder, record)


def _public(ref: Ref) -> str:
    """A reference without the paths of this machine."""
    return ref.folder.absolute().name if ref.folder is not None else str(ref)


def _fingerprint(ref: Ref) -> str:
    """40 hex digits over config and weights of a local model."""
    folder, _, _ = model_folder(ref.folder or str(ref))
    names = ("config.json", "*.safetensors", "pytorch_model*.bin")
    paths = sorted({path for name in names for path in folder.glob(name)})
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {file_digest(path, Silent())}\n".encode())
    return digest.hexdigest()[:40]


def _cells(verdict: Verdict, key: str) -> tuple[str, ...]:
    figures = []
    if verdict.lineage is not None:
        figures.append(f"distance {verdict.lineage.overall.distance:.3g}")
    if verdict.loss is not None and verdict.loss.gain is not None:
        gain, best = verdict.loss.gain, verdict.loss.curve.best()
        figures.append(f"gain {gain:.3f} nats per token; best λ {best:.2f}")
    expected = verdict.prediction
    if expected is not None:
        share = expected.share
        figures.append(f"expected share {share.value:.2f} ({share.low:.2f} to {share.high:.2f})")
    plain = "; ".join(figures).replace("[", "(").replace("]", ")").replace(",", " to")
    return (
        verdict.target,
        key,
        verdict.adapter,
        verdict.depth,
        verdict.status.value,
        plain,
        str(verdict.to_json()["tool"]),
    )


def recorded(registry: Registry, listing: Listing, commit: str | None) -> dict[str, object] | None:
    """What was recorded of an adapter and a target's commit, in short; ``None`` when nothing."""
    if commit is None:
        return None
    data = registry.record(listing, commit)
    if data is None:
        return None
    return _summary(data, listing.config, commit)


def _summary(data: bytes, config: AdapterConfig, commit: str) -> dict[str, object] | None:
    """The record's summary; a record that is damaged or of another version counts as none."""
    try:
        value: Json = validate(json.loads(data), "verdict", "verified")
    except (ValueError, RecursionError, IntegrityError):
        return None
    if value["content_digest"] != config.content_digest or value["commit"] != commit:
        return None
    return {key: value[key] for key in SUMMARY}
