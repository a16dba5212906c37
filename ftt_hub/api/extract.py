"""`extract`: make a transfer adapter of two models, or of a model and a PEFT adapter."""

from __future__ import annotations

from pathlib import Path

from ftt_hub.api.adapter import TransferAdapter
from ftt_hub.convert.peft_folder import is_peft_folder
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.extract import extract_full
from ftt_hub.extraction.manifest import Provenance
from ftt_hub.extraction.trials.trial import LossTrial
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress


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
            as bits per weight, size or error.
        provenance: Languages, datasets, method, licence and ids.
        sketch: Store a sample of the source base (at most 0.05% of it).
        workers: Number of threads; default one per core, at most 8.
        resume: Continue the work of a run that was killed.
        force: Continue although a PEFT adapter names another base.
        progress: Receives progress events; default: none.
        trial: Text on which lossy codecs are tried: the step that keeps the loss within its limit,
            or the better rounding. Afterwards it holds what was measured.

    Raises:
        ExtractionError: The two do not make a diff vector, or no step keeps the loss in its limit.
        CheckpointError: One of them is not a readable model, or holds NaN.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    out = Path(out_dir)
    coding = codec if isinstance(codec, Coding) else Coding(codec)
    if is_peft_folder(Path(fine_tuned)):
        from ftt_hub.convert.from_peft import from_peft  # needs torch, which others here do not

        from_peft(
            fine_tuned,
            out,
            base=source_base,
            coding=coding,
            provenance=provenance,
            sketch=sketch,
            workers=workers,
            resume=resume,
            force=force,
            progress=progress,
            trial=trial,
        )
    else:
        extract_full(
            source_base,
            fine_tuned,
            out,
            coding,
            provenance=provenance,
            sketch=sketch,
            workers=workers,
            resume=resume,
            progress=progress,
            trial=trial,
        )
    return TransferAdapter.from_pretrained(out)
