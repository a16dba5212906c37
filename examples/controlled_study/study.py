"""The whole study: families side by side, each stage once, the numbers of all in one file."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from controlled_study.cache import Cache, Node
from controlled_study.family import Family
from controlled_study.settings import Settings
from controlled_study.tuning import ADAPTER, CURVE, Tuner, load, steps_to_do, tuning_node
from ftt_hub.recycling.steps import Step

Say = Callable[[str], None]
_SCORES = "scores.json"


@dataclass(frozen=True)
class Planned:
    """A stage of the plan.

    Attributes:
        label: For people.
        node: Its place in the cache.
        tokens: That it trains on, about.
    """

    label: str
    node: Node
    tokens: int


def plan(settings: Settings, cache: Cache) -> list[Planned]:
    """All stages in order; opens and trains nothing."""
    found: list[Planned] = []
    given, tuning = settings.pretraining, settings.fine_tuning
    lengths = [steps for stage in given.stages for steps in stage.steps]
    for seed in settings.seeds:
        family = Family(settings, seed, cache)
        for number, steps in enumerate(lengths, 1):
            tokens = steps * given.batch_size * given.window
            found.append(Planned(f"seed {seed}: M_{number}", family.node(number), tokens))
        for step in steps_to_do(settings):
            tokens = tuning.steps * tuning.batch_size * _QUESTION
            found.append(Planned(f"seed {seed}: {label(step)}", tuning_node(family, step), tokens))
        for node, name in _matrix_nodes(family):
            found.append(Planned(f"seed {seed}: {name}", node, 0))
    return found


_QUESTION = 16
"""Tokens of a question with its answer, about."""


def label(step: Step) -> str:
    """What a step is, in the paper's words."""
    if step.parent is None:
        return f"FT(M_{step.version})"
    kind = "^iter" if len(step.versions) > 2 else ""
    return f"FT(M_{step.version} + Δ_{step.parent.version}{kind})"


def run_family(settings: Settings, seed: int, root: Path, say: Say) -> dict[str, Any]:
    """All stages of one seed, and its numbers."""
    import torch

    torch.set_num_threads(settings.threads)
    cache = Cache(root)
    family = Family(settings, seed, cache)
    began = time.time()
    before = {one.node for one in plan_of(settings, seed, cache) if cache.path(one.node).is_dir()}

    def note(node: Node, what: str) -> None:
        if node not in before:
            say(f"seed {seed}: {what} after {time.time() - began:.0f} s")

    for number in range(1, settings.pretraining.versions + 1):
        family.version(number)
        note(family.node(number), f"M_{number}")
    tuner = Tuner(family, family.questions())
    for step in steps_to_do(settings):
        tuner.run(step)
        note(tuner.node(step), label(step))
    for node, name in _matrix_nodes(family):
        cache.made(node, _scorer(tuner, name))
    say(f"seed {seed}: {len(before)} stages were done before, the rest is done now")
    return collect(settings, seed, cache)


def _matrix_nodes(family: Family) -> Iterator[tuple[Node, str]]:
    """The models to be scored in full: "i", "i+j", and fine-tuned ones by their step."""
    count = family.settings.pretraining.versions
    problems = asdict(family.settings.evaluation)
    for i in range(1, count + 1):
        base = family.node(i)
        yield Node.of("scores", after=(base,), problems=problems), f"M_{i}"
        for j in range(1, count + 1):
            after = (base, tuning_node(family, Step((j,))))
            yield Node.of("scores", after=after, problems=problems), f"M_{i} + Δ_{j}"
    for step in steps_to_do(family.settings):
        if step.parent is not None:
            after = (tuning_node(family, step),)
            yield Node.of("scores", after=after, problems=problems), step.name


def _scorer(tuner: Tuner, name: str) -> Callable[[Path], None]:
    """Scores the model that a name of `_matrix_nodes` stands for."""
    from controlled_study.training import device_of

    def make(folder: Path) -> None:
        device = device_of(tuner.family.settings.device)
        version, step = _parts(name)
        adapter = None if step is None else tuner.adapter(step)
        model = load(tuner.family.version(version), adapter, device)
        scores = tuner.questions.ask(model)
        (folder / _SCORES).write_text(json.dumps(scores), encoding="utf-8")

    return make


def _parts(name: str) -> tuple[int, Step | None]:
    """The base version and the step whose Δ is added."""
    if not name.startswith("M_"):
        step = Step(tuple(map(int, name.split("-"))))
        return step.version, step
    base, _, delta = name.partition(" + ")
    return int(base[2:]), Step((int(delta[2:]),)) if delta else None


def collect(settings: Settings, seed: int, cache: Cache) -> dict[str, Any]:
    """The numbers of a finished seed, read from the cache."""
    family = Family(settings, seed, cache)
    scores = {
        name: json.loads((cache.path(node) / _SCORES).read_text("utf-8"))
        for node, name in _matrix_nodes(family)
    }
    curves, sizes = {}, {}
    for step in steps_to_do(settings):
        folder = cache.path(tuning_node(family, step))
        curves[step.name] = json.loads((folder / CURVE).read_text("utf-8"))
        files = (folder / ADAPTER).iterdir()
        sizes[step.name] = sum(path.stat().st_size for path in files if path.is_file())
    times = [cache.times(planned.node) for planned in plan_of(settings, seed, cache)]
    return {
        "seed": seed,
        "scores": scores,
        "curves": curves,
        "adapter_bytes": sizes,
        "wall_s": round(sum(one["wall_s"] for one in times), 1),
        "processor_s": round(sum(one["processor_s"] for one in times), 1),
    }


def plan_of(settings: Settings, seed: int, cache: Cache) -> list[Planned]:
    """The stages of one seed."""
    return [one for one in plan(settings, cache) if one.label.startswith(f"seed {seed}:")]


def run_study(settings: Settings, root: Path, say: Say) -> dict[str, Any]:
    """All seeds, `workers` at a time; the results, ready for JSON."""
    Family(settings, settings.seeds[0], Cache(root)).corpus()
    began = time.time()
    found = {}
    if settings.workers == 1:
        for seed in settings.seeds:
            found[seed] = run_family(settings, seed, root, say)
    else:
        with ProcessPoolExecutor(settings.workers, mp_context=get_context("spawn")) as pool:
            jobs = {
                pool.submit(run_family, settings, seed, root, say): seed for seed in settings.seeds
            }
            for job in as_completed(jobs):
                found[jobs[job]] = job.result()
    return {
        "settings": asdict(settings),
        "families": [found[seed] for seed in settings.seeds],
        "machine": _machine(settings),
        "wall_s_of_this_run": round(time.time() - began, 1),
    }


def _machine(settings: Settings) -> dict[str, Any]:
    import torch
    import transformers

    from controlled_study.training import device_of
    from ftt_hub.version import __version__

    return {
        "cores": os.cpu_count(),
        "device": device_of(settings.device).type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ftt_hub": __version__,
    }
