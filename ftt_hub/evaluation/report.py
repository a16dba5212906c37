"""The result of a comparison: models, metrics, figures, changes, and how tasks were asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.evaluation.contestants import Contestant
from ftt_hub.evaluation.scores import Line, Score
from ftt_hub.loss.estimates import Estimate

if TYPE_CHECKING:
    from ftt_hub.evaluation.tasks import LoadedTask

FORMAT = "1.0"


@dataclass(frozen=True)
class TaskFacts:
    """How a task was asked.

    Attributes:
        name: Name of the task, group, or file.
        kind: ``task`` (of the harness, or a YAML file), ``rows`` or ``text``.
        num_fewshot: Examples before the question, ``None`` where tasks of a group differ.
        chat_template: Whether models with a chat template were asked in it.
        generation: Arguments of generation that differ from the task's.
        split: Split of the data set, where there is one.
        version: The task's version in the harness.
        sha256: Digest of the file, where the task is one.
    """

    name: str
    kind: str
    num_fewshot: int | None = None
    chat_template: bool = False
    generation: dict[str, Any] | None = None
    split: str | None = None
    version: str | None = None
    sha256: str | None = None


def facts_of(task: LoadedTask) -> TaskFacts:
    """How a loaded task is asked."""
    leaves = list(task.leaves.values())
    shots = {int(leaf.get_config("num_fewshot") or 0) for leaf in leaves}
    splits = {
        leaf.get_config("test_split") or leaf.get_config("validation_split") for leaf in leaves
    }
    versions = {str((leaf.get_config("metadata") or {}).get("version", "")) for leaf in leaves}
    rows = task.sha256 is not None and leaves[0].get_config("custom_dataset") is not None
    return TaskFacts(
        task.name,
        "rows" if rows else "task",
        shots.pop() if len(shots) == 1 else None,
        task.setting.chat_template,
        task.setting.generation or None,
        splits.pop() if len(splits) == 1 else None,
        (versions.pop() or None) if len(versions) == 1 else None,
        task.sha256,
    )


@dataclass(frozen=True)
class Row:
    """One metric for all models.

    Attributes:
        line: The metric.
        scores: In the order of the contestants.
    """

    line: Line
    scores: tuple[Score, ...]

    def change(self, number: int) -> Estimate | None:
        """A contestant minus m_t, paired; ``None`` for m_t itself, or without a common basis."""
        return None if number == 0 else self.scores[number].change_from(self.scores[0])


@dataclass(frozen=True)
class Evaluation:
    """A comparison.

    Attributes:
        contestants: The models; the first is m_t.
        tasks: How they were asked.
        rows: One per metric.
        harness: Version of lm-evaluation-harness, ``None`` when only text was measured.
        limit: Samples a task, ``None`` for all.
        dtype: What the models ran in, as asked.
    """

    contestants: tuple[Contestant, ...]
    tasks: tuple[TaskFacts, ...]
    rows: tuple[Row, ...]
    harness: str | None
    limit: int | None
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form, as ``schemas/evaluation.schema.json`` describes it."""
        return {
            "format_version": FORMAT,
            "harness": self.harness,
            "limit": self.limit,
            "dtype": self.dtype,
            "models": [contestant.to_json() for contestant in self.contestants],
            "tasks": [asdict(task) for task in self.tasks],
            "results": [self._row_json(row) for row in self.rows],
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        scores = []
        for number, (who, score) in enumerate(zip(self.contestants, row.scores, strict=True)):
            change = row.change(number)
            scores.append(
                {
                    "model": who.label,
                    **score.to_json(),
                    "change": None if change is None else change.to_json(),
                }
            )
        return {
            **asdict(row.line),
            "samples": len(row.scores[0].samples),
            "scores": scores,
        }
