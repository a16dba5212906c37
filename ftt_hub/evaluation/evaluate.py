"""`ftt_hub.evaluate`: models side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ftt_hub.errors import FttError, TaskError
from ftt_hub.evaluation.contestants import Contestant, Entrant
from ftt_hub.evaluation.harness import harness_version
from ftt_hub.evaluation.lineup import Lineup
from ftt_hub.evaluation.report import Evaluation, Row, TaskFacts, facts_of
from ftt_hub.evaluation.running import check_outputs, run_task
from ftt_hub.evaluation.scores import Scores
from ftt_hub.evaluation.tasks import Asked, load_tasks
from ftt_hub.evaluation.texts import text_scores
from ftt_hub.support.paths import PathLike

Scored = tuple[Contestant, Scores]
"""A model and its figures."""


def evaluate(
    target: PathLike,
    *,
    adapters: Sequence[PathLike] = (),
    models: Sequence[PathLike] = (),
    scale: float = 1.0,
    tasks: Sequence[str] = (),
    settings: Sequence[str] = (),
    text: PathLike | None = None,
    tokens: int | None = None,
    asked: Asked | None = None,
    batch_size: int | str = 1,
    device: str | None = None,
    dtype: str = "auto",
    registry: PathLike | None = None,
    notify: Callable[[str], None] | None = None,
    bars: bool = False,
) -> Evaluation:
    """Compare m_t, m_t + scale·Δ for each adapter, and other models, with intervals.

    One model is in memory at a time. Δ is added to m_t in place and taken off bit for bit.

    Args:
        target: m_t, a folder or Hub reference.
        adapters: Transfer adapters, each added to m_t alone.
        models: Other models, such as m_t fine-tuned anew.
        scale: Task-arithmetic coefficient λ.
        tasks: lm-evaluation-harness tasks: names, YAML files, or JSONL files of prompts with
            completions or choices (`ftt_hub.evaluation.rows`).
        settings: The paper's settings by name (`ftt_hub.evaluation.settings`).
        text: Held-out text for loss and perplexity (`ftt_hub.loss.read_text`).
        tokens: Scored tokens of the text to use; default all.
        asked: Few-shot number, chat template, and samples per task.
        batch_size: Batch size of tasks, or ``"auto"``.
        device: Torch device to run on; default CUDA where there is a GPU.
        dtype: Torch dtype of the models; ``auto``: as stored.
        registry: Registry of the adapters: ``"hf"`` or a folder.
        notify: Called with a line that says what is measured next.
        bars: Whether the harness may draw progress bars on stderr.

    Raises:
        MissingExtraError: Tasks need `pip install 'ftt-hub[eval]'`.
        IncompatibleError: An adapter does not fit; nothing was loaded.
        FttError: A task or text cannot be used, or a figure is not a number.
    """
    options = asked or Asked()
    if not tasks and not settings and text is None:
        raise FttError("nothing to measure", hint="Name tasks, a setting, or a text.")
    loaded = load_tasks(tasks, settings, options, bars=bars)
    facts = [facts_of(task) for task in loaded]
    path = None if text is None else Path(text)
    if path is not None:
        facts.append(TaskFacts(path.name, "text"))
    tell = notify or _ignore

    def visit(entrant: Entrant) -> Scored:
        check_outputs(entrant)
        scores: Scores = {}
        for task in loaded:
            tell(f"{entrant.contestant.label}: {task.name}")
            scores |= run_task(entrant, task, limit=options.limit, batch_size=batch_size, bars=bars)
        if path is not None:
            tell(f"{entrant.contestant.label}: {path.name}")
            scores |= text_scores(entrant, path, tokens=tokens)
        return entrant.contestant, scores

    lineup = Lineup(target, adapters, models, scale, registry, device, dtype, bars)
    results = _told_apart(list(lineup.each(visit)))
    return Evaluation(
        tuple(who for who, _ in results),
        tuple(facts),
        _rows(results),
        harness_version() if loaded else None,
        options.limit,
        dtype,
    )


def _ignore(_: str) -> None:
    """Takes lines that nobody reads."""


def _told_apart(results: list[Scored]) -> list[Scored]:
    """The same with labels that differ: a second one of a name gets its number."""
    labels = [who.label for who, _ in results]
    return [
        (replace(who, label=f"{who.label} #{n + 1}") if who.label in labels[:n] else who, scores)
        for n, (who, scores) in enumerate(results)
    ]


def _rows(results: Sequence[Scored]) -> tuple[Row, ...]:
    """The metrics that every model has a score for, in the order of m_t's."""
    first = results[0][1]
    rows = [
        Row(line, tuple(scores[line] for _, scores in results))
        for line in first
        if all(line in scores for _, scores in results)
    ]
    if not rows:
        raise TaskError("no metric that every model has a score for")
    return tuple(rows)
