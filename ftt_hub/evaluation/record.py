"""Figures of a comparison as evaluation results in the cards of its adapters.

A card shows one figure a line, so the settings behind it go into the metric's name: the standard
error, m_t's own figure, shots, samples, and the harness's version.
"""

from __future__ import annotations

from ftt_hub.artifact.card_results import MAX_TEXT, EvaluationResult
from ftt_hub.evaluation.contestants import TRANSFER
from ftt_hub.evaluation.report import Evaluation, Row, TaskFacts
from ftt_hub.registry.evaluations import record_evaluations
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import parse_ref

KIND = "text-generation"
HARNESS_PAGE = "https://github.com/EleutherAI/lm-evaluation-harness"
"""Where the harness's tasks are described."""


def record(evaluation: Evaluation, *, registry: PathLike | None = None) -> list[str]:
    """Write the figures of every adapter into its card: in its folder, or on main in a registry.

    A figure of the same task, metric, target and scale is replaced; content and digest stay.

    Args:
        evaluation: The comparison.
        registry: ``"hf"`` or a folder.

    Returns:
        The adapters whose cards changed.

    Raises:
        RegistryError: The registry refuses.
        OutputError: A card cannot be written.
    """
    changed = []
    for number, who in enumerate(evaluation.contestants):
        if who.kind != TRANSFER:
            continue
        ref = parse_ref(who.reference)
        results = results_of(evaluation, number)
        if record_evaluations(ref.folder or ref.name or "", results, registry=registry):
            changed.append(who.reference)
    return changed


def results_of(evaluation: Evaluation, number: int) -> list[EvaluationResult]:
    """One contestant's figures as a card holds them."""
    target, who = evaluation.contestants[0], evaluation.contestants[number]
    named = target.label if target.revision is None else f"{target.label}@{target.revision}"
    facts = {facts.name: facts for facts in evaluation.tasks}
    results = []
    for row in evaluation.rows:
        task = facts.get(row.line.task)
        metric = row.line.metric
        from_harness = task is None or task.kind == "task"
        results.append(
            EvaluationResult(
                KIND,
                _cut(row.line.task),
                metric if row.line.filter == "none" else f"{metric},{row.line.filter}",
                row.scores[number].value,
                _metric_name(evaluation, row, number, task),
                split=None if task is None else task.split,
                target=_cut(named),
                scale=None if who.scale == 1 else who.scale,
                source_url=HARNESS_PAGE if from_harness else None,
                source_name="lm-evaluation-harness" if from_harness else None,
            )
        )
    return results


def _metric_name(evaluation: Evaluation, row: Row, number: int, task: TaskFacts | None) -> str:
    """The metric with what a reader must know to believe it."""
    score = row.scores[number]
    error = "" if score.standard_error is None else f" ± {score.standard_error:.2g}"
    parts = [f"{row.line.title}{error} (m_t {row.scores[0].value:.4g})", f"n={len(score.samples)}"]
    if task is not None and task.num_fewshot is not None:
        parts.append(f"{task.num_fewshot}-shot")
    if task is not None and task.chat_template:
        parts.append("chat template")
    if evaluation.limit is not None and (task is None or task.kind != "text"):
        parts.append(f"limit {evaluation.limit}")
    if task is not None and task.sha256 is not None:
        parts.append(f"sha256:{task.sha256[:12]}")
    if evaluation.harness is not None and (task is None or task.kind != "text"):
        parts.append(f"lm-eval {evaluation.harness}")
    return _cut("; ".join(parts))


def _cut(text: str) -> str:
    return text[:MAX_TEXT]
