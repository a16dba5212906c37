"""One model on one task: the harness's figures, with the samples behind them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import TaskError
from ftt_hub.evaluation.contestants import Entrant
from ftt_hub.evaluation.harness import quiet, task_errors
from ftt_hub.evaluation.scores import (
    Line,
    Score,
    Scores,
    aggregated_score,
    group_score,
    numbers,
)
from ftt_hub.loss.measurement import LossError

if TYPE_CHECKING:
    from ftt_hub.evaluation.tasks import LoadedTask
    from ftt_hub.loss.estimates import Floats

SEED = 1234
"""The default seed of the harness."""


def check_outputs(entrant: Entrant) -> None:
    """Refuse a model whose logits are not numbers: the harness would score them all the same.

    Raises:
        LossError: NaN or infinity.
    """
    import torch

    ids = torch.arange(4, device=entrant.model.device)[None]
    with torch.inference_mode():
        logits = entrant.model(input_ids=ids).logits
    if not bool(torch.isfinite(logits).all()):
        raise LossError(
            "the model's outputs are not numbers",
            where=entrant.contestant.label,
            hint="Weights or dtype overflow; try --dtype float32 or a smaller --scale.",
        )


def run_task(
    entrant: Entrant, task: LoadedTask, *, limit: int | None, batch_size: int | str, bars: bool
) -> Scores:
    """Run a task on a model.

    Returns:
        A score for every metric of the task; of a group with figures of its own, only those.

    Raises:
        TaskError: The task cannot be run.
        LossError: A likelihood is not a number, or memory ran out.
    """
    import torch
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    chat = task.setting.chat_template and entrant.tokenizer.chat_template is not None
    task.reseed(SEED)
    _seed_all(SEED)
    with quiet(bars), task_errors(task.name):
        lm = HFLM(
            pretrained=entrant.model,
            tokenizer=entrant.tokenizer,
            batch_size=batch_size,
        )
        try:
            results = evaluate(
                lm,
                task.loaded,
                limit=limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
            )
        except torch.OutOfMemoryError as error:
            raise LossError(
                "out of memory",
                where=f"{entrant.contestant.label}, {task.name}",
                hint="Use a smaller --batch-size, or a device with more memory.",
            ) from error
        if results is None:
            raise TaskError("only the first process has results", where=task.name)
        _check_likelihoods(results["samples"], entrant.contestant.label)
        return dict(_scores(results, task))


def _seed_all(seed: int) -> None:
    """Seed what tasks and sampling draw from, so that every model is asked the same."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # the harness draws from the global generator
    torch.manual_seed(seed)


def _check_likelihoods(samples: dict[str, list[dict[str, Any]]], label: str) -> None:
    for name, rows in samples.items():
        answers = (answer for row in rows for tries in row["resps"] for answer in tries)
        for answer in answers:
            likelihood = answer[0] if isinstance(answer, tuple) else answer
            if isinstance(likelihood, float) and not math.isfinite(likelihood):
                raise LossError(
                    "a likelihood is not a number",
                    where=f"{label}, {name}",
                    found=likelihood,
                    hint="Weights or dtype overflow; try --dtype float32 or a smaller --scale.",
                )


def _scores(results: dict[str, Any], task: LoadedTask) -> Iterator[tuple[Line, Score]]:
    metrics = task.setting.metrics
    scores = list(_group_scores(results, task)) or list(_leaf_scores(results, task))
    chosen = [(y, s) for y, s in scores if not metrics or f"{y.metric},{y.filter}" in metrics]
    if not chosen:
        raise TaskError(
            "no such metric",
            where=task.name,
            expected=", ".join(metrics),
            found=", ".join(f"{line.metric},{line.filter}" for line, _ in scores),
        )
    yield from chosen


def _leaf_scores(results: dict[str, Any], task: LoadedTask) -> Iterator[tuple[Line, Score]]:
    for name, leaf in task.leaves.items():
        aggregations = leaf.aggregation()
        for (metric, answers), (items, keys) in _columns(results["samples"][name]).items():
            if metric in aggregations:
                line = Line(name, metric, answers, _direction(results, name, metric))
                yield line, aggregated_score(items, aggregations[metric], keys)


def _group_scores(results: dict[str, Any], task: LoadedTask) -> Iterator[tuple[Line, Score]]:
    figures = (results.get("groups") or {}).get(task.name, {})
    tables = {name: _columns(results["samples"][name]) for name in task.leaves}
    for key, value in figures.items():
        metric, _, answers = key.partition(",")
        if not answers or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        parts: list[tuple[Floats, list[str]]] = []
        for name, columns in tables.items():
            items, keys = columns.get((metric, answers), ([], []))
            values = numbers(items)
            if values is not None and len(values):
                parts.append((values, [f"{name}/{key}" for key in keys]))
        score = group_score(parts, float(value)) if parts else None
        if score is not None:
            yield Line(task.name, metric, answers, _direction(results, task.name, metric)), score


def _columns(
    rows: list[dict[str, Any]],
) -> dict[tuple[str, str], tuple[list[Any], list[str]]]:
    """Items and keys of the samples, by metric and filter, in the order of the documents."""
    columns: dict[tuple[str, str], tuple[list[Any], list[str]]] = {}
    for row in sorted(rows, key=lambda row: int(row["doc_id"])):
        for metric in row["metrics"]:
            items, keys = columns.setdefault((metric, row["filter"]), ([], []))
            items.append(row[metric])
            keys.append(str(row["doc_hash"]))
    return columns


def _direction(results: dict[str, Any], name: str, metric: str) -> bool | None:
    value = (results.get("higher_is_better") or {}).get(name, {}).get(metric)
    return value if isinstance(value, bool) else None
