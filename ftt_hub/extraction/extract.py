"""Make an adapter of two full checkpoints: open both, check what they claim to be, build."""

from __future__ import annotations

from pathlib import Path

from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.checkpoint.spelling import alike, is_known
from ftt_hub.checkpoint.view import named_as, stored
from ftt_hub.errors import ExtractionError
from ftt_hub.extraction.builder import AdapterBuilder
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.claims import check_claim
from ftt_hub.extraction.manifest import Provenance
from ftt_hub.extraction.model import Model
from ftt_hub.extraction.trials.trial import LossTrial
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.warn import warn_caller


def extract_full(
    source_base: PathLike,
    fine_tuned: PathLike,
    out: Path,
    coding: Coding,
    *,
    provenance: Provenance | None = None,
    sketch: bool = True,
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    trial: LossTrial | None = None,
) -> None:
    """Write the adapter folder Δ = fine_tuned − source_base; `ftt_hub.extract` documents it all.

    Raises:
        ExtractionError: The two do not make a diff vector, or no step keeps the loss in its limit.
        CheckpointError: One of them is not a readable model, or holds NaN.
        OutputError: `out` is not empty, or the disk is full.
    """
    source, source_headers = open_model(source_base)
    with source:
        tuned, tuned_headers = open_model(fine_tuned)
        with tuned:
            given = provenance or Provenance()
            check_claim(source.folder, given.source_id)
            check_claim(tuned.folder, given.fine_tuned_id)
            shown, shown_headers = named_as(stored(source_headers), tuned, tuned_headers)
            _refuse_homeless(shown_headers)
            _warn_of_names(source_headers, shown_headers)
            AdapterBuilder(
                Model(source, source_headers), Model(shown, shown_headers), out,
                given, coding, sketch, workers, progress or Silent(), trial,
            ).build(resume=resume)  # fmt: skip


def _refuse_homeless(tuned: ModelHeaders) -> None:
    """Refuse tensors that would be lost: no parameter of the model, under none of its names."""
    homeless = () if tuned.respelling is None else tuned.respelling.homeless
    if homeless:
        more = f" and {len(homeless) - 5} more" if len(homeless) > 5 else ""
        raise ExtractionError(
            "tensors that are no parameters of the model",
            where=tuned.label,
            expected="the source base's tensors under any names that transformers loads",
            found=", ".join(homeless[:5]) + more,
            hint="Remove them from the fine-tuned checkpoint, or name its real source base.",
        )


def _warn_of_names(source: ModelHeaders, tuned: ModelHeaders) -> None:
    """Say where names alone decide although each model has names of its own."""
    mine, theirs = stored(source), stored(tuned)
    if tuned.respelling is None and not alike(mine.shapes, theirs.shapes):
        more, fewer = theirs.shapes.keys() - mine.shapes.keys(), mine.shapes.keys() - theirs.shapes
        if more and fewer and not is_known(source.config):
            warn_caller(
                "transformers does not know this architecture, so that tensors are matched by name "
                f"alone: {len(more)} only the fine-tuned model has ({min(more)}), "
                f"{len(fewer)} only the source base ({min(fewer)})",
            )
