"""`recycle`: the paper's development loop over the versions of a base model.

The one module that knows all others of the package: for each step it merges, fine-tunes, extracts,
evaluates, publishes, and records the step as done.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ftt_hub.artifact.manifest import read_config
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.resolve import model_folder, read_headers
from ftt_hub.errors import RecycleError
from ftt_hub.recycling.adapters import extract_step, provenance, publish
from ftt_hub.recycling.bases import check_transfer, identity, require_compatible
from ftt_hub.recycling.evaluation import held_out_loss
from ftt_hub.recycling.extra import require_train_extra
from ftt_hub.recycling.inputs import step_inputs
from ftt_hub.recycling.plan import Plan, fitted, limits, make_plan, positions
from ftt_hub.recycling.ranks import Ranks, join
from ftt_hub.recycling.recipe import RecycleRecipe, read_recipe
from ftt_hub.recycling.result import Recycled
from ftt_hub.recycling.rows import fetch, read_rows, rows_key, tokenize
from ftt_hub.recycling.settings import check_arguments, check_devices, on_cpu
from ftt_hub.recycling.state import LoopState, exclusive, read_state
from ftt_hub.recycling.steps import Step, steps_of
from ftt_hub.recycling.tuning import HISTORY, Tuning, load_tokenizer
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import partial_folder
from ftt_hub.transfer.apply import apply


def recycle(
    recipe: PathLike | RecycleRecipe,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Recycled:
    """For each base version M_i: start from M_i + Δ_{i−1}, fine-tune, extract Δ_i (Algorithm 1).

    A run that was killed continues where it stopped: finished steps stay as they are, and within a
    step training continues from its last checkpoint. Under ``accelerate launch`` all processes call
    this.

    Args:
        recipe: A YAML file or a recipe.
        progress: Receives progress events; default: none.
        note: Receives lines for the user: verdicts, rows, losses.

    Raises:
        MissingExtraError: trl, accelerate or datasets is not installed.
        RecycleError: The recipe is not valid, or contradicts what was done before.
        IncompatibleError: The base versions do not match.
        TextError: A row cannot be parsed; with its line.
        TrainingError: The loss is not a number; the last sound state is kept.
        OutputError: The disk is full, or another process works in the output folder.
    """
    require_train_extra()
    chosen = recipe if isinstance(recipe, RecycleRecipe) else read_recipe(recipe)
    ranks = join(cpu=on_cpu(chosen.training))
    headers = [read_headers(base) for base in chosen.bases]
    if not ranks.leads:
        ranks.wait()  # for the checks of the leader
        return _run(_Loop(chosen, headers, LoopState(Path()), ranks, Silent(), _ignore))
    say = note or _ignore
    check_arguments(chosen.training)
    check_devices(chosen.training, ranks.count)
    plan = make_plan(chosen)
    for report in plan.reports:
        say(f"{report.adapter} → {report.target}: {report.verdict}")
    require_compatible(plan.reports)
    for line in limits(plan, chosen):
        say(line)
    with exclusive(chosen.out):
        ranks.wait()
        state = read_state(chosen.out)
        return _run(_Loop(chosen, headers, state, ranks, progress or Silent(), say))


def preview_recycling(recipe: PathLike | RecycleRecipe) -> Plan:
    """What `recycle` would do and need; trains nothing and writes nothing.

    Raises:
        RecycleError: The recipe is not valid.
    """
    return make_plan(recipe if isinstance(recipe, RecycleRecipe) else read_recipe(recipe))


def _ignore(_line: str) -> None:
    """Takes lines that nobody reads."""


def _run(loop: _Loop) -> Recycled:
    recipe = loop.recipe
    for step in steps_of(recipe.variants, len(recipe.bases)):
        loop.run(step)
    return Recycled.of(recipe, read_state(recipe.out))


@dataclass
class _Loop:
    """A recipe being carried out.

    Attributes:
        recipe: The recipe.
        headers: Headers of the base versions.
        state: What is done already.
        ranks: This process among all.
        progress: Receives progress events.
        note: Receives one line at a time for the user.
    """

    recipe: RecycleRecipe
    headers: list[ModelHeaders]
    state: LoopState
    ranks: Ranks
    progress: Progress
    note: Callable[[str], None]
    _files: tuple[Path, Path | None] | None = field(default=None, repr=False)

    def run(self, step: Step) -> None:
        """Do a step, or what is left of it.

        Raises:
            IncompatibleError: The diff vector to recycle does not fit the base version.
            FttError: Anything else that a user can cause.
        """
        if self.ranks.leads:
            self._prepare(step)
        self.ranks.wait()
        if not self.ranks.leads:
            self.state = read_state(self.recipe.out)
        if self.state.result(step.name) is not None:
            return
        if not (self._work(step) / "tuned").is_dir():
            self._tuning(step).run(self.ranks, self.progress)
            gc.collect()
        if self.ranks.leads:
            self._finish(step)
        self.ranks.wait()

    def _adapter(self, step: Step) -> Path:
        return self.recipe.out / "adapters" / step.name

    def _work(self, step: Step) -> Path:
        return self.recipe.out / "work" / step.name

    def _base(self, step: Step) -> PathLike:
        return self.recipe.bases[step.version - 1]

    def _start(self, step: Step) -> Path:
        """The model that training begins with."""
        if step.parent is not None:
            return self._work(step) / "start"
        return model_folder(self._base(step))[0]

    def _data(self) -> tuple[Path, Path | None]:
        if self._files is None:
            self._files = fetch(self.recipe.data, self.recipe.out / "data")
        return self._files

    @cached_property
    def _template(self) -> str | None:
        path = self.recipe.data.chat_template
        return None if path is None else path.read_text(encoding="utf-8")

    def _prepare(self, step: Step) -> None:
        inputs = self._inputs(step)
        can_continue = self.state.begin(step.name, inputs)
        work = self._work(step)
        if self.state.result(step.name) is not None:
            shutil.rmtree(work, ignore_errors=True)
            self.note(f"step {step.name}: done before")
            return
        if not can_continue:
            adapter = self._adapter(step)
            for folder in (work, adapter, partial_folder(adapter)):
                shutil.rmtree(folder, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        if step.parent is not None:
            self._merge(step, step.parent)
        self._tokenize(step)
        self._measure(step, "start", self._start(step))
        if step.parent is not None:
            self._measure(step, "base", model_folder(self._base(step))[0])

    def _inputs(self, step: Step) -> dict[str, Any]:
        digest = self.state.digest
        base = identity(*model_folder(self._base(step)), digest)
        parent = None if step.parent is None else self._parent_digest(step.parent)
        inputs = step_inputs(self.recipe, base, parent, self._data(), digest)
        self.state.save()
        return inputs

    def _parent_digest(self, parent: Step) -> str:
        recorded = (self.state.result(parent.name) or {}).get("content_digest")
        digest = read_config(self._adapter(parent)).content_digest
        if digest != recorded:
            raise RecycleError(
                f"is not the adapter that step {parent.name} made",
                where=self._adapter(parent),
                expected=recorded,
                found=digest,
                hint="Restore it, or name another folder as out.",
            )
        return digest

    def _merge(self, step: Step, parent: Step) -> None:
        """M_i + Δ_{i−1}, after a check whose verdict is shown."""
        base, adapter, start = self._base(step), self._adapter(parent), self._start(step)
        if start.is_dir():
            return
        title = f"step {step.name}: Δ of step {parent.name}"
        check_transfer(adapter, base, title, self.note)
        apply(adapter, base, start, progress=self.progress)

    def _tokenize(self, step: Step) -> None:
        train, start = self._data()[0], self._start(step)
        length = fitted(self.recipe.training, self._headers(step)).sequence_length
        tokenizer = load_tokenizer(start, self._template)
        key = rows_key(start, self.state.digest(train), length, tokenizer)
        rows = tokenize(train, tokenizer, self.recipe.out / "data" / f"rows-{key}", length=length)
        self.state.steps[step.name]["rows"] = rows.path.parent.name
        self.state.save()
        self.note(f"step {step.name}: {rows.summary(length)}")

    def _headers(self, step: Step) -> ModelHeaders:
        return self.headers[step.version - 1]

    def _tuning(self, step: Step) -> Tuning:
        return Tuning(
            f"{self.recipe.name}-{step.name}",
            self._start(step),
            read_rows(self.recipe.out / "data" / self.state.steps[step.name]["rows"]),
            self._work(step) / "checkpoints",
            self._work(step) / "tuned",
            fitted(self.recipe.training, self._headers(step)),
            self._template,
        )

    def _measure(self, step: Step, label: str, folder: Path) -> None:
        """Measure held-out loss, once."""
        validation, losses = self._data()[1], self.state.losses(step.name)
        if validation is None or label in losses:
            return
        given, limit = self.recipe.evaluation, positions(self._headers(step))
        losses[label] = held_out_loss(
            folder,
            validation,
            tokenizer=load_tokenizer(self._start(step), self._template),
            tokens=given.get("tokens"),
            window=given.get("window") or (None if limit is None else min(limit, 512)),
            cpu=on_cpu(self.recipe.training),
        )
        self.state.save()

    def _finish(self, step: Step) -> None:
        tuned, adapter = self._work(step) / "tuned", self._adapter(step)
        if not adapter.is_dir():
            self._extract(step, tuned, adapter)
        self._measure(step, "tuned", tuned)
        result = {
            "adapter": str(adapter.relative_to(self.recipe.out)),
            "content_digest": read_config(adapter).content_digest,
            "published": publish(self.recipe, step, adapter),
        }
        histories = self.recipe.out / "histories"
        histories.mkdir(exist_ok=True)
        shutil.copyfile(tuned / HISTORY, histories / f"{step.name}.json")
        if self.recipe.keep_models:
            kept = self.recipe.out / "models" / step.name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(tuned, kept)
        self.state.finish(step.name, result)
        shutil.rmtree(self._work(step), ignore_errors=True)
        self.note(f"step {step.name}: {_course(self.state.losses(step.name))}{adapter}")

    def _extract(self, step: Step, tuned: Path, adapter: Path) -> None:
        parent = None
        if step.parent is not None:
            result = self.state.result(step.parent.name) or {}
            parent = (result, self._parent_digest(step.parent))
        base, origin = self._base(step), provenance(self.recipe, step, parent)
        extract_step(self.recipe, step, base, tuned, adapter, origin, self.progress)


def _course(losses: Mapping[str, Any]) -> str:
    """``held-out loss 3.1000 → 2.8500, ``, or nothing."""
    if "tuned" not in losses:
        return ""
    return f"held-out loss {losses['start']['value']:.4f} → {losses['tuned']['value']:.4f}, "
