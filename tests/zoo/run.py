"""Run the zoo: every architecture in every variant, one row of results each."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from zoo.architectures import Architecture, NotBuilt
from zoo.spellings import make_trio
from zoo.trial import Outcome, trial

UNBUILT = "unbuilt"


def quiet() -> None:
    """One thread, and no word from transformers."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def outcomes(architecture: Architecture, variants: list[str]) -> Iterator[Outcome]:
    """The outcome of each variant, in its order."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as root, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trio = make_trio(architecture, Path(root))
        except NotBuilt as error:
            for variant in variants:
                yield Outcome(architecture.name, variant, UNBUILT, str(error))
            return
        except Exception as error:
            text = f"transformers: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            for variant in variants:
                yield Outcome(architecture.name, variant, UNBUILT, text)
            return
        for variant in variants:
            yield trial(trio, variant)


class Results:
    """A file of outcomes, one JSON object per line; runs go on where they stopped."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        rows = [row for row in map(json.loads, lines) if row["outcome"] != UNBUILT]
        self.rows = {(row["architecture"], row["variant"]): row for row in rows}

    def add(self, outcome: Outcome) -> None:
        """Append one outcome."""
        self.rows[outcome.architecture, outcome.variant] = outcome.as_json()
        with self.path.open("a") as file:
            file.write(json.dumps(outcome.as_json()) + "\n")
