"""Evaluation results in a card: the `model-index` that the Hub reads and draws.

The form is huggingface_hub's (`EvalResult`, `eval_results_to_model_index`), the same under 1.31 and
2.4. What was measured on which target is kept as the metric's `args`. A card is written by anyone:
results of another form are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ftt_hub.errors import FttError

KEY = "model-index"
MAX_RESULTS = 500
MAX_TEXT = 200
_REQUIRED = ("task", "dataset", "metric")


@dataclass(frozen=True)
class EvaluationResult:
    """One figure that somebody measured.

    Attributes:
        task: Kind of task, as the Hub calls it: ``text-generation``.
        dataset: Id or name of what it was measured on.
        metric: ``accuracy``, ``perplexity``, ….
        value: The figure; finite.
        metric_name: For people, where `metric` does not say enough.
        config: Subset of the dataset.
        split: ``test``, ….
        target: The model that Δ was added to, ``name@commit``; ``None``: the source base.
        scale: λ it was added with, where it is not 1.
        source_url: Where the measurement is described.
        source_name: Name of that place.
    """

    task: str
    dataset: str
    metric: str
    value: float
    metric_name: str | None = None
    config: str | None = None
    split: str | None = None
    target: str | None = None
    scale: float | None = None
    source_url: str | None = None
    source_name: str | None = None

    def __post_init__(self) -> None:
        texts = [value for value in asdict(self).values() if isinstance(value, str)]
        valid = all(getattr(self, name) for name in _REQUIRED)
        if not valid or any(not _is_plain(text) for text in texts):
            raise FttError(
                "not an evaluation result",
                where=f"{self.task!r}, {self.dataset!r}, {self.metric!r}"[:MAX_TEXT],
                expected=f"task, dataset and metric, a line of at most {MAX_TEXT} letters each",
            )
        if not all(math.isfinite(x) for x in (self.value, self.scale or 0.0)):
            raise FttError("not a finite figure", where=self.metric, found=self.value)

    @property
    def identity(self) -> tuple[object, ...]:
        """What was measured; a new value of the same thing replaces the old one."""
        return (
            self.task,
            self.dataset,
            self.config,
            self.split,
            self.metric,
            self.target,
            self.scale,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form; absent values are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def _is_plain(text: str) -> bool:
    return len(text) <= MAX_TEXT and text.isprintable()


def results_from(front: Mapping[str, Any] | None) -> tuple[EvaluationResult, ...]:
    """The results of a card's front matter, from an unchecked value."""
    found: list[EvaluationResult] = []
    for entry in _dicts((front or {}).get(KEY)):
        for result in _dicts(entry.get("results")):
            for metric in _dicts(result.get("metrics")):
                made = _result(result, metric)
                if made is not None:
                    found.append(made)
                if len(found) >= MAX_RESULTS:
                    return tuple(found)
    return tuple(found)


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value[:MAX_RESULTS] if isinstance(item, dict))


def _part(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _result(result: Mapping[str, Any], metric: Mapping[str, Any]) -> EvaluationResult | None:
    task, dataset = _part(result.get("task")), _part(result.get("dataset"))
    source, args = _part(result.get("source")), _part(metric.get("args"))
    texts = (
        _text(task.get("type")),
        _text(dataset.get("type")) or _text(dataset.get("name")),
        _text(metric.get("type")),
    )
    try:
        value, scale = _number(metric.get("value")), _number(args.get("scale"))
        if value is None or None in texts:
            return None
        return EvaluationResult(
            str(texts[0]),
            str(texts[1]),
            str(texts[2]),
            value,
            _text(metric.get("name")),
            _text(dataset.get("config")),
            _text(dataset.get("split")),
            _text(args.get("target")),
            scale,
            _text(source.get("url")),
            _text(source.get("name")),
        )
    except (FttError, OverflowError):
        return None


def with_results(
    front: Mapping[str, Any], name: str, results: Iterable[EvaluationResult]
) -> dict[str, Any]:
    """Front matter with these results added; one of the same identity is replaced.

    Args:
        front: The card's front matter.
        name: What the results are of, as leaderboards show it.
        results: What was measured.
    """
    merged = {result.identity: result for result in (*results_from(front), *results)}
    rest = {key: value for key, value in front.items() if key != KEY}
    if not merged:
        return rest
    return {**rest, KEY: [{"name": name, "results": list(_groups(merged.values()))}]}


def _groups(results: Iterable[EvaluationResult]) -> Iterator[dict[str, Any]]:
    """Results of one task, dataset and source are one entry with many metrics."""
    groups: dict[tuple[str | None, ...], list[EvaluationResult]] = {}
    for r in results:
        key = (r.task, r.dataset, r.config, r.split, r.source_url, r.source_name)
        groups.setdefault(key, []).append(r)
    for (task, dataset, config, split, url, source), members in groups.items():
        entry = {
            "task": {"type": task},
            "dataset": _held(type=dataset, name=dataset, config=config, split=split),
            "metrics": [_metric(result) for result in members],
        }
        if url is not None:  # a source without an address is no source to the Hub
            entry["source"] = _held(name=source or url, url=url)
        yield entry


def _metric(result: EvaluationResult) -> dict[str, Any]:
    args = _held(target=result.target, scale=result.scale)
    return _held(type=result.metric, value=result.value, name=result.metric_name, args=args or None)


def _held(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
