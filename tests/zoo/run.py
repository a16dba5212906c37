"""Run the zoo: every architecture in every variant, one row of results each."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import transformers

from zoo.architectures import Architecture, NotBuiltError
from zoo.spellings import Trio, make_trio
from zoo.trial import Outcome, trial

UNBUILT = "unbuilt"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """One thread, and no word from transformers; afterwards as before."""
    threads, verbosity = torch.get_num_threads(), transformers.logging.get_verbosity()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity(verbosity)


def outcomes(
    architecture: Architecture, variants: list[str], *, ways: bool = False
) -> list[Outcome]:
    """The outcome of each variant; `UNBUILT` where transformers cannot make or save the model."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as root, quiet():
        made = _trio(architecture, Path(root))
        if isinstance(made, str):
            return [Outcome(architecture.name, v, UNBUILT, made) for v in variants]
        return [trial(made, variant, ways=ways) for variant in variants]


def _trio(architecture: Architecture, root: Path) -> Trio | str:
    try:
        return make_trio(architecture, root)
    except NotBuiltError as error:
        return str(error)
    except Exception as error:  # whatever transformers says of its own model
        text = " ".join(str(error).split())[:200]
        return f"transformers does not save and load it: {type(error).__name__}: {text}"


class Results:
    """A file of outcomes, one JSON object per line; runs go on where they stopped."""

    def __init__(self, path: Path) -> None:
        """Read what is there; what could not be built is tried again."""
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.all = [Outcome(**json.loads(line)) for line in lines]
        self.done = {(o.architecture, o.variant) for o in self.all if o.outcome != UNBUILT}

    def add(self, outcome: Outcome) -> None:
        """Append one outcome."""
        self.all.append(outcome)
        with self.path.open("a") as file:
            file.write(json.dumps(outcome.as_json()) + "\n")

    @property
    def latest(self) -> list[Outcome]:
        """The last outcome of each architecture and variant."""
        return list({(o.architecture, o.variant): o for o in self.all}.values())


def run(
    work: list[tuple[Architecture, list[str]]], *, jobs: int = 1, ways: bool = False
) -> Iterator[Outcome]:
    """All outcomes, as they come."""
    if jobs == 1:
        for architecture, variants in work:
            yield from outcomes(architecture, variants, ways=ways)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        tasks = [pool.submit(outcomes, a, v, ways=ways) for a, v in work]
        for task in tasks:
            yield from task.result()
