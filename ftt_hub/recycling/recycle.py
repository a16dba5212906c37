"""`recycle`: the paper's development loop over the versions of a base model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.resolve import read_headers
from ftt_hub.errors import OutputError
from ftt_hub.recycling.bases import require_compatible
from ftt_hub.recycling.extra import require_train_extra
from ftt_hub.recycling.loop import Loop
from ftt_hub.recycling.plan import Plan, fitted, make_plan
from ftt_hub.recycling.ranks import join
from ftt_hub.recycling.recipe import Recipe, RecycleError, read_recipe
from ftt_hub.recycling.settings import batches, check_arguments, on_cpu
from ftt_hub.recycling.state import State, read_state
from ftt_hub.recycling.steps import result_step, steps_of
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.sizes import format_bytes
from ftt_hub.support.staging import writing


@dataclass(frozen=True)
class Recycled:
    """What the loop gave.

    Attributes:
        out: The output folder.
        variants: Variant → for each base version, in order: ``step``, ``adapter`` (folder),
            ``content_digest``, ``published`` (references) and ``losses`` (``base``: M_i, ``start``:
            M_i + Δ_{i−1}, ``tuned``: after training; nats a token).
    """

    out: Path
    variants: dict[str, list[dict[str, Any]]]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"out": str(self.out), "variants": self.variants}


def recycle(
    recipe: str | Path | Recipe,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Recycled:
    """For each base version M_i: start from M_i + Δ_{i−1}, fine-tune, extract Δ_i (Algorithm 1).

    A run that was killed goes on where it stopped: finished steps stay as they are, and within a
    step training goes on from its last checkpoint. Under ``accelerate launch`` all processes call
    this.

    Args:
        recipe: A YAML file or a recipe.
        progress: Watches.
        note: Takes lines for the user: verdicts, rows, losses.

    Raises:
        MissingExtraError: trl, accelerate or datasets is not installed.
        RecycleError: The recipe is not valid, or does not fit what was done before.
        IncompatibleError: The base versions do not match.
        TextError: A row cannot be parsed; with its line.
        TrainingError: The loss is not a number; the last sound state is kept.
        OutputError: The disk is full, or another process works in the output folder.
    """
    require_train_extra()
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    ranks = join(cpu=on_cpu(chosen.training))
    say = note if note is not None and ranks.leads else _silent
    watched = progress if progress is not None and ranks.leads else Silent()
    if not ranks.leads:
        ranks.wait()  # for the checks of the leader
        return _carry_out(Loop(chosen, _headers(chosen), State(Path()), ranks, watched, say))
    check_arguments(chosen.training)
    _check_devices(chosen, ranks.count)
    plan = make_plan(chosen)
    for report in plan.reports:
        say(f"{report.adapter} → {report.target}: {report.verdict}")
    require_compatible(plan.reports)
    _say_limits(chosen, plan, say)
    with _held(chosen.out):
        ranks.wait()
        state = read_state(chosen.out)
        return _carry_out(Loop(chosen, _headers(chosen), state, ranks, watched, say))


def preview_recycling(recipe: str | Path | Recipe) -> Plan:
    """What `recycle` would do and need; trains nothing and writes nothing.

    Raises:
        RecycleError: The recipe is not valid.
    """
    return make_plan(recipe if isinstance(recipe, Recipe) else read_recipe(recipe))


def _carry_out(loop: Loop) -> Recycled:
    recipe = loop.recipe
    for step in steps_of(recipe.variants, len(recipe.bases)):
        loop.run(step)
    state = read_state(recipe.out)
    variants = {
        variant: [_row(state, result_step(variant, i + 1).name) for i in range(len(recipe.bases))]
        for variant in recipe.variants
    }
    return Recycled(recipe.out, variants)


def _row(state: State, step: str) -> dict[str, Any]:
    return {"step": step, **(state.result(step) or {}), "losses": state.losses(step)}


def _headers(recipe: Recipe) -> list[ModelHeaders]:
    return [read_headers(base) for base in recipe.bases]


def _silent(_line: str) -> None:
    """Nobody listens."""


def _say_limits(recipe: Recipe, plan: Plan, say: Callable[[str], None]) -> None:
    if plan.disk > plan.free:
        say(
            f"note: up to {format_bytes(plan.disk)} may be needed, "
            f"{format_bytes(plan.free)} are free"
        )
    for header in _headers(recipe)[:1]:
        length = fitted(recipe.training, header).sequence_length
        if length < recipe.training.sequence_length:
            say(f"note: {header.label} takes {length} tokens; sequences are cut there")


def _check_devices(recipe: Recipe, processes: int) -> None:
    """Refuse several GPUs in one process: TRL would."""
    import torch

    batches(recipe.training, processes)
    if processes == 1 and not on_cpu(recipe.training) and torch.cuda.device_count() > 1:
        raise RecycleError(
            "several GPUs and one process",
            found=f"{torch.cuda.device_count()} GPUs",
            hint="Run accelerate launch -m ftt_hub.cli recycle RECIPE, or let "
            "CUDA_VISIBLE_DEVICES name one.",
        )


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep other runs out of an output folder."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / ".lock").touch()
    lock = FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            "another run works in this folder", where=out, hint="Wait for it to end."
        ) from error
    try:
        yield
    finally:
        lock.release()
