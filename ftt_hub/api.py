"""The verbs, as a Python user calls them; each command of the command line is one of these."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ftt_hub.adapter import Adapter, adapter_folder, adapter_headers, open_adapter
from ftt_hub.config import AdapterConfig
from ftt_hub.live.methods import OnModels
from ftt_hub.progress import Progress, Silent

if TYPE_CHECKING:
    from ftt_hub.browsing import BrowseEntry, browse
    from ftt_hub.exchange import Pulled, publish, pull
    from ftt_hub.extraction.choice import Coding
    from ftt_hub.extraction.manifest import Provenance
    from ftt_hub.extraction.trial import LossTrial
    from ftt_hub.ledger import deprecate, preview, record_evaluations, versions
    from ftt_hub.merging import MergeResult
    from ftt_hub.ranking import Ranked, rank
    from ftt_hub.recording import record_verdict
    from ftt_hub.verdict.options import TextOptions
    from ftt_hub.verdict.report import Verdict

PathLike = str | Path

__all__ = [
    "BrowseEntry",
    "MergeResult",
    "Pulled",
    "Ranked",
    "TransferAdapter",
    "apply",
    "browse",
    "deprecate",
    "extract",
    "preview",
    "publish",
    "pull",
    "rank",
    "record_evaluations",
    "record_verdict",
    "verify",
    "versions",
]


_HOMES = {
    "BrowseEntry": "ftt_hub.browsing",
    "MergeResult": "ftt_hub.merging",
    "Pulled": "ftt_hub.exchange",
    "Ranked": "ftt_hub.ranking",
    "browse": "ftt_hub.browsing",
    "deprecate": "ftt_hub.ledger",
    "preview": "ftt_hub.ledger",
    "publish": "ftt_hub.exchange",
    "pull": "ftt_hub.exchange",
    "rank": "ftt_hub.ranking",
    "record_evaluations": "ftt_hub.ledger",
    "record_verdict": "ftt_hub.recording",
    "versions": "ftt_hub.ledger",
}
"""Verbs that live elsewhere; what one of them needs costs the others no time at start-up."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def extract(
    source_base: PathLike,
    fine_tuned: PathLike,
    out_dir: PathLike,
    *,
    codec: str | Coding = "exact",
    provenance: Provenance | None = None,
    sketch: bool = True,
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    trial: LossTrial | None = None,
) -> TransferAdapter:
    """Make the transfer adapter Δ = fine_tuned − source_base (Lin et al. 2025, §2).

    Streams: memory does not grow with the model. The folder appears whole or not at all.

    Args:
        source_base: m_s, a folder or Hub reference.
        fine_tuned: m'_s, likewise, or the folder of a PEFT adapter such as LoRA.
        out_dir: Folder to make; absent or empty.
        codec: ``exact``, ``anchored``, ``quantized`` or ``auto``; a `Coding` also sets limits such
            as bits a weight, size or error.
        provenance: Languages, datasets, method, licence and ids.
        sketch: Store a sample of the source base (at most 0.05% of it).
        workers: Threads; default the cores, at most 8.
        resume: Continue the work of a run that was killed.
        force: Go on although a PEFT adapter names another base.
        progress: Watches.
        trial: Text on which lossy codecs are tried: the step that keeps the loss within its limit,
            or the better rounding. Afterwards it holds what was measured.

    Raises:
        ExtractionError: The two do not make a diff vector, or no step keeps the loss in its limit.
        CheckpointError: One of them is not a readable model, or holds NaN.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    from ftt_hub.checkpoint.resolve import open_model
    from ftt_hub.convert.peft_folder import is_peft_folder
    from ftt_hub.extraction.builder import AdapterBuilder
    from ftt_hub.extraction.choice import Coding
    from ftt_hub.extraction.claims import check_claim
    from ftt_hub.extraction.manifest import Provenance
    from ftt_hub.extraction.model import Model

    out = Path(out_dir)
    coding = codec if isinstance(codec, Coding) else Coding(codec)
    if is_peft_folder(Path(fine_tuned)):
        from ftt_hub.convert.from_peft import from_peft  # needs torch, which others here do not

        from_peft(
            fine_tuned, out, base=source_base, coding=coding, provenance=provenance, sketch=sketch,
            workers=workers, resume=resume, force=force, progress=progress, trial=trial,
        )  # fmt: skip
        return TransferAdapter.from_pretrained(out)
    source, source_headers = open_model(source_base)
    with source:
        tuned, tuned_headers = open_model(fine_tuned)
        with tuned:
            given = provenance or Provenance()
            check_claim(source.folder, given.source_id)
            check_claim(tuned.folder, given.fine_tuned_id)
            AdapterBuilder(
                Model(source, source_headers), Model(tuned, tuned_headers), out,
                given, coding, sketch, workers, progress or Silent(), trial,
            ).build(resume=resume)  # fmt: skip
    return TransferAdapter.from_pretrained(out)


def apply(
    adapter: PathLike | TransferAdapter,
    target_base: PathLike,
    out_dir: PathLike,
    *,
    scale: float = 1.0,
    dtype: str | None = None,
    max_shard_size: int | None = None,
    revision: str | None = None,
    registry: PathLike | None = None,
    force: bool = False,
    source_base: PathLike | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> MergeResult:
    """Write the merged checkpoint m_t + scale·Δ (Lin et al. 2025, eq. 1), streamed.

    Args:
        adapter: An adapter, its folder, or its reference.
        target_base: m_t, a folder or Hub reference.
        out_dir: Folder to make; absent or empty.
        scale: Task-arithmetic coefficient λ.
        dtype: Dtype of the result; default the target's, tensor by tensor.
        max_shard_size: Bytes of a weight file; default 5 GB.
        revision: Of the adapter.
        registry: ``"hf"`` or a folder; default `FTT_HUB_REGISTRY`, else the Hub.
        force: Go on in spite of a rejection.
        source_base: m_s, which only ``anchored`` adapters read; default the target itself.
        workers: Threads.
        progress: Watches.

    Raises:
        IncompatibleError: The adapter does not fit.
        IntegrityError: The adapter is damaged.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    from ftt_hub.merging import DEFAULT_SHARD_BYTES, merge, parse_dtype
    from ftt_hub.preparation import prepared
    from ftt_hub.recommendation import remind

    wanted = None if dtype is None else parse_dtype(dtype)
    opened = _opened(adapter, revision, registry)
    remind(opened.folder, opened.label, scale)
    with prepared(opened, target_base, force=force, source_base=source_base) as target:
        return merge(
            opened, target, Path(out_dir), scale=scale, dtype=wanted,
            max_shard_size=DEFAULT_SHARD_BYTES if max_shard_size is None else max_shard_size,
            workers=workers, progress=progress,
        )  # fmt: skip


def _opened(
    adapter: PathLike | TransferAdapter, revision: str | None, registry: PathLike | None
) -> Adapter:
    if isinstance(adapter, TransferAdapter):
        return adapter.opened
    return open_adapter(adapter, revision=revision, registry=registry)


@dataclass(frozen=True)
class TransferAdapter(OnModels):
    """A transfer adapter: a packaged diff vector and what is known of it.

    On models in memory: `apply_to`, `remove_from`, `set_scale`, `swap`, `applied`.

    Attributes:
        opened: Its folder, manifest and frames.
    """

    opened: Adapter

    @classmethod
    def from_pretrained(
        cls,
        adapter: PathLike,
        *,
        revision: str | None = None,
        registry: PathLike | None = None,
    ) -> Self:
        """Open an adapter by folder or by ``namespace/name[@revision]``.

        Raises:
            RefError: It names nothing.
            IntegrityError: It is damaged.
            UnsupportedError: It was made for a newer format.
        """
        return cls(open_adapter(adapter, revision=revision, registry=registry))

    @property
    def config(self) -> AdapterConfig:
        """The manifest."""
        return self.opened.config

    @property
    def folder(self) -> Path:
        """Where the adapter lies; read only."""
        return self.opened.folder

    def verify(
        self,
        target: PathLike,
        *,
        depth: str = "headers",
        text: PathLike | TextOptions | None = None,
        source_base: PathLike | None = None,
        other: PathLike | None = None,
        force: bool = False,
    ) -> Verdict:
        """Whether the adapter fits a target, and helps there; `ftt_hub.verify` says more.

        Raises:
            RefError: The target names nothing.
            CheckpointError: The target is not a readable model.
        """
        from ftt_hub.verification import verify_target

        return verify_target(
            self.opened, target, depth=depth, text=text, source_base=source_base, other=other,
            force=force,
        )  # fmt: skip

    def apply(self, target_base: PathLike, out_dir: PathLike, *, scale: float = 1.0) -> MergeResult:
        """Write the merged checkpoint; `ftt_hub.apply` has all options."""
        return apply(self, target_base, out_dir, scale=scale)

    def close(self) -> None:
        """Close its files."""
        self.opened.close()


def verify(
    adapter: PathLike,
    target: PathLike | None = None,
    *,
    depth: str = "headers",
    text: PathLike | TextOptions | None = None,
    source_base: PathLike | None = None,
    other: PathLike | None = None,
    force: bool = False,
    revision: str | None = None,
    registry: PathLike | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verdict | AdapterConfig:
    """Check an adapter's fit with a target, or without one its integrity.

    Args:
        adapter: Folder, or ``namespace/name[@revision]``.
        target: m_t, a folder or Hub reference.
        depth: ``headers`` (kilobytes), ``sketch`` (up to 0.05% of the target's bytes), ``weights``
            (one pass over them) or ``loss`` (model runs on `text`).
        text: Held-out text for depth ``loss``: a file, or a `TextOptions`.
        source_base: m_s for the last two depths; default what the manifest names, if at hand.
        other: Another adapter, for interference at depth ``weights``.
        force: Go deeper although the sketch rejects the target.
        revision: Of the adapter.
        registry: ``"hf"`` or a folder.
        workers: Threads.
        progress: Watches.

    Returns:
        The verdict for a target, or the manifest of an intact adapter.

    Raises:
        IntegrityError: The adapter is damaged.
        FttError: A model or the text cannot be read.
    """
    if target is None:
        from ftt_hub.container.folder import check_adapter

        folder, _ = adapter_folder(adapter, revision=revision, registry=registry)
        return check_adapter(folder, progress=progress, workers=workers)
    from ftt_hub.verification import verify_target

    if depth in ("headers", "sketch"):
        headers = adapter_headers(adapter, revision=revision, registry=registry)
        return verify_target(headers, target, depth=depth, text=text)
    with open_adapter(adapter, revision=revision, registry=registry) as opened:
        return verify_target(
            opened, target, depth=depth, text=text, source_base=source_base, other=other,
            registry=registry, force=force, workers=workers, progress=progress,
        )  # fmt: skip
