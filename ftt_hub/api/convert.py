"""Conversions, as a Python user calls them; each subcommand of `convert` is one of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ftt_hub.api.adapter import TransferAdapter
from ftt_hub.convert import channels, from_peft, sparse_patch, to_lora
from ftt_hub.convert.channels import ChannelReport
from ftt_hub.convert.lora_report import LoraReport
from ftt_hub.convert.low_rank import Goal
from ftt_hub.convert.sparse_patch import PatchReport
from ftt_hub.convert.to_lora import LoraOptions
from ftt_hub.extraction.builder import Provenance
from ftt_hub.extraction.choice import Coding
from ftt_hub.registry.open import AdapterLike, as_opened
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress
from ftt_hub.transfer.prepare import decodable


def convert_from_peft(
    adapter: PathLike,
    out_dir: PathLike,
    *,
    base: PathLike | None = None,
    codec: str | Coding = "factored",
    provenance: Provenance | None = None,
    sketch: bool = True,
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> TransferAdapter:
    """Make a transfer adapter of a PEFT adapter of any method that can be merged.

    Args:
        adapter: Folder, or ``namespace/name[@revision]`` on the Hub.
        out_dir: Folder to make; absent or empty.
        base: The model it was trained on; default the one it names.
        codec: ``factored`` keeps the factors of LoRA and AdaLoRA and stores all else by ``exact``;
            the others as for `extract`.
        provenance: Languages, datasets, method, licence and ids.
        sketch: Store a sample of the base.
        workers: Number of threads.
        resume: Continue the work of a run that was killed.
        force: Continue although the adapter names another base.
        progress: Receives progress events; default: none.

    Raises:
        UnsupportedError: The method cannot be merged, or the weights are pickled.
        IncompatibleError: The adapter names another base.
        CheckpointError: Adapter and base do not belong together, or NaN.
    """
    out = Path(out_dir)
    coding = codec if isinstance(codec, Coding) else Coding(codec)
    from_peft.from_peft(
        adapter,
        out,
        base=base,
        coding=coding,
        provenance=provenance,
        sketch=sketch,
        workers=workers,
        resume=resume,
        force=force,
        progress=progress,
    )
    return TransferAdapter.from_pretrained(out)


def convert_to_lora(
    adapter: AdapterLike,
    out_dir: PathLike,
    *,
    rank: int | None = None,
    energy: float | None = None,
    max_error: float | None = None,
    target_modules: Sequence[str] = (),
    modules_to_save: bool = False,
    base: PathLike | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    revision: str | None = None,
    registry: PathLike | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LoraReport:
    """Write a LoRA adapter that approximates Δ and loads in plain PEFT, without ftt-hub.

    Args:
        adapter: An adapter, its folder, or its reference.
        out_dir: Folder to make; absent or empty.
        rank: Components of every module; 64 when nothing else is given.
        energy: Share of ‖Δ‖² that every module keeps, by a rank of its own.
        max_error: Largest ‖Δ − BA‖/‖Δ‖ of every module, likewise.
        target_modules: Layers to take; default all linear layers but the head.
        modules_to_save: Carry norms, embeddings and the head whole; reads the source base.
        base: The source base; default the one the adapter names.
        dtype: Dtype of the factors: ``float32``, ``float16``, ``bfloat16``; default that of Δ.
        device: Torch device to compute on, such as ``cuda``.
        seed: Seed for the random test vectors.
        revision: Branch, tag or commit of the adapter.
        registry: ``"hf"`` or a folder.
        workers: Number of threads.
        progress: Receives progress events; default: none.

    Raises:
        FttError: The goal makes no sense.
        UnsupportedError: Nothing is left for LoRA, or cannot be saved whole.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    if rank is None and energy is None and max_error is None:
        rank = 64
    options = LoraOptions(
        Goal(rank, energy, max_error), tuple(target_modules), modules_to_save, dtype, device, seed
    )
    opened = as_opened(adapter, revision=revision, registry=registry)
    return to_lora.to_lora(
        opened, Path(out_dir), options, base=base, workers=workers, progress=progress
    )


def convert_to_sparse_patch(
    adapter: AdapterLike,
    base: PathLike,
    out: PathLike,
    *,
    encoding: str = "raw",
    scale: float = 1.0,
    revision: str | None = None,
    registry: PathLike | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PatchReport:
    """Write the sparse patch that turns `base` into base + scale·Δ in place, bit for bit.

    Args:
        adapter: An adapter, its folder, or its reference.
        base: The model that the server runs: the source base, or another target.
        out: The safetensors file to make.
        encoding: Encoding of the indices: ``raw`` int32 as vLLM takes them, or the smaller
            ``gap_delta``.
        scale: Task-arithmetic coefficient λ.
        revision: Branch, tag or commit of the adapter.
        registry: ``"hf"`` or a folder.
        force: Continue although the target is rejected.
        progress: Receives progress events; default: none.

    Raises:
        IncompatibleError: The adapter does not fit.
        UnsupportedError: Δ adds or moves tensors.
        OutputError: The file exists, or the disk is full.
    """
    opened = as_opened(adapter, revision=revision, registry=registry)
    return sparse_patch.to_sparse_patch(
        opened, base, Path(out), encoding=encoding, scale=scale, force=force, progress=progress
    )


def export_channels(
    adapter: AdapterLike,
    out: PathLike,
    *,
    source_base: PathLike | None = None,
    revision: str | None = None,
    registry: PathLike | None = None,
    progress: Progress | None = None,
) -> ChannelReport:
    """Write update magnitudes and zero-update counts per channel, for quantizers such as QuantLRM.

    Args:
        adapter: An adapter, its folder, or its reference.
        out: The safetensors file to make.
        source_base: The model that anchored frames decode against; default the one the adapter
            names.
        revision: Branch, tag or commit of the adapter.
        registry: ``"hf"`` or a folder.
        progress: Receives progress events; default: none.

    Raises:
        RefError: An anchored adapter's source base is not available.
        UnsupportedError: No weight matrix changed.
        OutputError: The file exists, or the disk is full.
    """
    opened = as_opened(adapter, revision=revision, registry=registry)
    with decodable(opened, source_base):
        return channels.export_channels(opened, Path(out), progress=progress)
