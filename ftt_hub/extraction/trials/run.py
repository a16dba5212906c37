"""Trying codings on a text, each as a draft that is never written to disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.folder import list_files
from ftt_hub.artifact.manifest import Fidelity
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.quantized import QuantizedCodec
from ftt_hub.extraction.travelling import write_travelling
from ftt_hub.extraction.trials.bench import Bench
from ftt_hub.extraction.trials.draft import Draft
from ftt_hub.extraction.trials.search import run
from ftt_hub.support.progress import Silent

if TYPE_CHECKING:
    from ftt_hub.extraction.choice import Chooser, Coding
    from ftt_hub.extraction.manifest import Manifest
    from ftt_hub.extraction.trials.trial import LossTrial

_UNKNOWN = Fidelity(False, 0.0, 0.0, 0.0, 0, 0, 0.0, 0.0)


def try_codings(trial: LossTrial, coding: Coding, chooser: Chooser, manifest: Manifest) -> Coding:
    """The coding that a trial leads to, with its step.

    Args:
        trial: The text; receives the measurements.
        coding: What the user asked for.
        chooser: The two models, surveyed once.
        manifest: What the adapter's manifest will say.

    Raises:
        ExtractionError: Nothing tried stays within the limit.
        LossError: A loss is not a number, or memory ran out.
    """
    with tempfile.TemporaryDirectory(prefix="ftt-hub-trial-") as work:
        folder = Path(work)
        write_travelling(folder, manifest.files)  # by them rows of a vocabulary are aligned
        files = list_files(folder, Silent())

        def make(codec: QuantizedCodec | None) -> tuple[Adapter, Draft]:
            draft = Draft(chooser.pairs, chooser.source, chooser.tuned, codec, work)
            entries = tuple(draft.entries.values())
            config = manifest.config(entries, codec or ExactCodec(), _UNKNOWN).with_files(files)
            label = manifest.tuned.headers.label
            return Adapter(label, folder, None, config, draft), draft

        def bench() -> Bench:
            source = manifest.source.checkpoint.folder
            return Bench(trial, source, make, workers=chooser.workers, progress=chooser.progress)

        return run(trial, chooser, coding, bench)
