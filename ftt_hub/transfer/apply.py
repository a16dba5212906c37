"""`apply`: write the merged checkpoint m_t + λΔ."""

from __future__ import annotations

from pathlib import Path

from ftt_hub.artifact.card_scales import remind
from ftt_hub.registry.open import AdapterLike, as_opened
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress
from ftt_hub.tensors.dtypes import parse_dtype
from ftt_hub.transfer.merge import DEFAULT_SHARD_BYTES, MergeResult, merge
from ftt_hub.transfer.prepare import prepared


def apply(
    adapter: AdapterLike,
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
    wanted = None if dtype is None else parse_dtype(dtype)
    opened = as_opened(adapter, revision=revision, registry=registry)
    remind(opened.folder, opened.label, scale)
    with prepared(opened, target_base, force=force, source_base=source_base) as target:
        return merge(
            opened, target, Path(out_dir), scale=scale, dtype=wanted,
            max_shard_size=DEFAULT_SHARD_BYTES if max_shard_size is None else max_shard_size,
            workers=workers, progress=progress,
        )  # fmt: skip
