"""The verbs, as a Python user calls them; each command of the command line is one of these."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ftt_hub.adapter import Adapter, adapter_folder, adapter_headers, open_adapter
from ftt_hub.browsing import BrowseEntry, browse
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.config import CONFIG_NAME, AdapterConfig
from ftt_hub.container.folder import CARD_NAME, check_adapter
from ftt_hub.extraction.builder import AdapterBuilder, Model, Provenance
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.claims import check_claim
from ftt_hub.extraction.trial import LossTrial
from ftt_hub.ledger import deprecate, preview, record_evaluations, versions
from ftt_hub.live.methods import OnModels
from ftt_hub.merging import DEFAULT_SHARD_BYTES, MergeResult, merge, parse_dtype
from ftt_hub.preparation import prepared
from ftt_hub.progress import Progress, Silent
from ftt_hub.registry.abc import Publication
from ftt_hub.registry.choose import choose_registry
from ftt_hub.report import CompatibilityReport
from ftt_hub.staging import staged_folder
from ftt_hub.verification import verify_target

PathLike = str | Path

__all__ = [
    "BrowseEntry",
    "MergeResult",
    "Pulled",
    "TransferAdapter",
    "apply",
    "browse",
    "deprecate",
    "extract",
    "preview",
    "publish",
    "pull",
    "record_evaluations",
    "verify",
    "versions",
]


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
    progress: Progress | None = None,
    trial: LossTrial | None = None,
) -> TransferAdapter:
    """Make the transfer adapter Δ = fine_tuned − source_base (Lin et al. 2025, §2).

    Streams: memory does not grow with the model. The folder appears whole or not at all.

    Args:
        source_base: m_s, a folder or Hub reference.
        fine_tuned: m'_s, likewise.
        out_dir: Folder to make; absent or empty.
        codec: ``exact``, ``anchored``, ``quantized`` or ``auto``; a `Coding` also sets limits such
            as bits a weight, size or error.
        provenance: Languages, datasets, method, licence and ids.
        sketch: Store a sample of the source base (at most 0.05% of it).
        workers: Threads; default the cores, at most 8.
        resume: Continue the work of a run that was killed.
        progress: Watches.
        trial: Text on which lossy codecs are tried: the step that keeps the loss within its limit,
            or the better rounding. Afterwards it holds what was measured.

    Raises:
        ExtractionError: The two do not make a diff vector, or no step keeps the loss in its limit.
        CheckpointError: One of them is not a readable model, or holds NaN.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    out = Path(out_dir)
    coding = codec if isinstance(codec, Coding) else Coding(codec)
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
    max_shard_size: int = DEFAULT_SHARD_BYTES,
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
        max_shard_size: Bytes of a weight file.
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
    wanted = None if dtype is None else parse_dtype(dtype)
    opened = _opened(adapter, revision, registry)
    with prepared(opened, target_base, force=force, source_base=source_base) as target:
        return merge(
            opened, target, Path(out_dir), scale=scale, dtype=wanted,
            max_shard_size=max_shard_size, workers=workers, progress=progress,
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

    def verify(self, target: PathLike, *, depth: str = "headers") -> CompatibilityReport:
        """Whether the adapter fits a target; at depth ``headers`` no weights are read.

        Raises:
            RefError: The target names nothing.
            CheckpointError: The target is not a readable model.
        """
        return verify_target(self.opened, target, depth=depth)

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
    revision: str | None = None,
    registry: PathLike | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CompatibilityReport | AdapterConfig:
    """Check an adapter's fit with a target, or without one its integrity.

    Returns:
        The report for a target, or the manifest of an intact adapter.

    Raises:
        IntegrityError: The adapter is damaged.
    """
    if target is None:
        folder, _ = adapter_folder(adapter, revision=revision, registry=registry)
        return check_adapter(folder, progress=progress, workers=workers)
    headers = adapter_headers(adapter, revision=revision, registry=registry)
    return verify_target(headers, target, depth=depth)


def publish(
    folder: PathLike,
    name: str,
    *,
    version: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    registry: PathLike | None = None,
    progress: Progress | None = None,
) -> Publication:
    """Publish an adapter folder, after checking it completely.

    Args:
        folder: Made by `extract`.
        name: ``namespace/name``.
        version: ``1.2.0``; a published version never changes.
        private: Make the repository private, on the Hub.
        create_pr: Open a pull request instead, on the Hub; it has no version yet.
        registry: ``"hf"`` or a folder.
        progress: Watches the check.

    Raises:
        IntegrityError: The folder is damaged; nothing was published.
        VersionExistsError: The version exists with other content.
        RegistryError: The registry refuses.
    """
    check_adapter(Path(folder), progress=progress)
    chosen = choose_registry(registry)
    return chosen.publish(Path(folder), name, version=version, private=private, create_pr=create_pr)


@dataclass(frozen=True)
class Pulled:
    """A fetched adapter.

    Attributes:
        folder: Where it lies.
        revision: The tag or commit it was pinned to.
    """

    folder: Path
    revision: str | None


def pull(
    adapter: str,
    out_dir: PathLike | None = None,
    *,
    revision: str | None = None,
    registry: PathLike | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch an adapter from a registry and check it completely.

    Args:
        adapter: ``namespace/name[@revision]``.
        out_dir: Copy it into this folder; default where the registry or its cache has it.
        revision: Overrides the one in `adapter`.
        registry: ``"hf"`` or a folder.
        progress: Watches.

    Raises:
        RefError: It names nothing.
        IntegrityError: What arrived is damaged.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    folder, pinned = adapter_folder(adapter, revision=revision, registry=registry)
    config = check_adapter(folder, progress=progress)
    if out_dir is None:
        return Pulled(folder, pinned)
    with staged_folder(Path(out_dir)) as partial:
        for name in (*config.files, CONFIG_NAME, CARD_NAME):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, partial / name)
    return Pulled(Path(out_dir), pinned)
