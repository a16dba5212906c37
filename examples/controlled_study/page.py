"""The generated parts of docs/study.md: every table and every verdict, from the results alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from controlled_study.findings import outcomes
from controlled_study.intervals import Interval
from controlled_study.numbers import Numbers
from controlled_study.settings import StudyError

_BLOCK = re.compile(r"(<!-- begin (?P<name>[\w-]+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)
Families = Sequence[dict[str, Any]]


def renew(page: str, results: dict[str, Any]) -> str:
    """A page with its generated blocks made anew from the results.

    Raises:
        StudyError: It asks for a block that is not known.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in BLOCKS:
            raise StudyError("unknown block", where=name, expected=", ".join(BLOCKS))
        return f"{match[1]}{BLOCKS[name](results)}\n{match[3]}"

    return _BLOCK.sub(block, page)


def read_results(path: Path) -> dict[str, Any]:
    """The results of a study.

    Raises:
        StudyError: It is no such file.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise StudyError("cannot be read", where=path, found=error.strerror) from error
    except ValueError as error:
        raise StudyError("is not JSON", where=path, found=str(error)) from error
    if not isinstance(found, dict) or not {"settings", "families", "machine"} <= set(found):
        raise StudyError("is not a study's results", where=path)
    return found


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [list(heads), ["---"] * len(heads), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(interval: Interval, form: str = ".1f") -> str:
    """A mean with its interval's half width."""
    mean = f"{interval.mean:{form}}".replace("-", "−")
    return mean if interval.half == inf else f"{mean} ± {interval.half:{form.lstrip('+')}}"


def _over(families: Families, value: Callable[[Numbers], float], form: str = ".1f") -> str:
    return shown(Interval.of([value(Numbers(family)) for family in families]), form)


def _count(results: dict[str, Any]) -> int:
    return Numbers(results["families"][0]).count


def _findings(results: dict[str, Any]) -> str:
    rows = [
        [
            outcome.finding.where,
            outcome.finding.claim,
            outcome.finding.paper,
            f"{shown(outcome.seen, '+.1f')} {outcome.finding.unit}",
            f"**{outcome.verdict}**",
        ]
        for outcome in outcomes(results["families"])
    ]
    return table(("paper", "finding", "the paper's numbers", "seen here", "verdict"), rows)


def _setup(results: dict[str, Any]) -> str:
    given = results["settings"]
    shape, pretraining, tuning = given["model"], given["pretraining"], given["fine_tuning"]
    rows, first = [], 1
    for stage in pretraining["stages"]:
        last = first + len(stage["steps"]) - 1
        course = "falling to zero" if stage["decay"] else "constant"
        rows.append(
            [
                f"M_{first} … M_{last}",
                f"{' + '.join(map(str, stage['steps']))} steps, {100 * stage['arithmetic']:.0f}% "
                f"of them on equations; learning rate {pretraining['learning_rate']:g}, {course}",
            ]
        )
        first = last + 1
    return table(
        ("", "here"),
        [
            ["families (seeds)", str(len(given["seeds"]))],
            [
                "model",
                f"Llama, {shape['layers']} layers, {shape['hidden_size']} wide, "
                f"{shape['vocabulary']} tokens",
            ],
            *rows,
            [
                "a step",
                f"{pretraining['batch_size']} windows of {pretraining['window']} tokens of "
                f"text, or {pretraining['equations']} equations",
            ],
            ["numbers", f"up to {given['digits']} digit{'s' * (given['digits'] > 1)}"],
            ["held-out expressions", str(given["evaluation"]["expressions"])],
            [
                "fine-tuning",
                f"{tuning['steps']} steps of {tuning['batch_size']} questions, "
                f"learning rate {tuning['learning_rate']:g}, linear, warm-up 0.03",
            ],
        ],
    )


def _bases(results: dict[str, Any]) -> str:
    families = results["families"]
    rows = [
        [
            f"M_{i}",
            _over(families, lambda n, i=i: n.base(i, "text_loss"), ".2f"),
            _over(families, lambda n, i=i: n.base(i, "task_equations")),
            _over(families, lambda n, i=i: n.base(i, "unseen_equations")),
            _over(families, lambda n, i=i: n.base(i)),
        ]
        for i in range(1, _count(results) + 1)
    ]
    return table(
        (
            "",
            "text, nats per token",
            "task as an equation",
            "products as an equation",
            "task as a question",
        ),
        rows,
    )


def _matrix(results: dict[str, Any], what: str = "task") -> str:
    families, versions = results["families"], range(1, _count(results) + 1)
    rows = []
    for i in versions:
        cells = [_over(families, lambda n, i=i, j=j: n.plus(i, j, what)) for j in versions]
        cells[i - 1] = f"**{cells[i - 1]}**"
        rows.append([f"M_{i}", _over(families, lambda n, i=i: n.base(i, what)), *cells])
    return table(("", "alone", *(f"+ Δ_{j}" for j in versions)), rows)


def _equations(results: dict[str, Any]) -> str:
    return _matrix(results, "task_equations")


def _recycled(results: dict[str, Any]) -> list[tuple[int, int]]:
    also = [tuple(pair) for pair in results["settings"]["also"]]
    pairs = {*Numbers(results["families"][0]).neighbours, (1, _count(results)), *also}
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]))


def _tuned(results: dict[str, Any]) -> str:
    families = results["families"]
    rows = [
        [
            f"M_{i} + Δ_{j}",
            _over(families, lambda n, i=i, j=j: n.plus(i, j)),
            _over(families, lambda n, i=i, j=j: n.tuned(j, i)),
            _over(families, lambda n, i=i: n.tuned(i)),
            _over(families, lambda n, i=i, j=j: n.tuned(j, i) - n.tuned(i), "+.1f"),
        ]
        for j, i in _recycled(results)
    ]
    return table(("start", "before fine-tuning", "after", "FT(M_i) alone", "difference"), rows)


def _steps(results: dict[str, Any]) -> str:
    families = results["families"]
    rows = [
        [
            f"M_{i} + Δ_{j}",
            _over(families, lambda n, i=i: n.level(i)),
            _over(families, lambda n, i=i: n.steps_to_level(i)),
            _over(families, lambda n, i=i, j=j: n.steps_to_level(j, i)),
            _over(families, lambda n, i=i, j=j: n.saved(j, i), "+.1f") + "%",
        ]
        for j, i in _recycled(results)
    ]
    return table(("start", "level", "steps from M_i", "steps from M_i + Δ_j", "steps saved"), rows)


def _unseen(results: dict[str, Any]) -> str:
    families = results["families"]
    rows = [
        [
            f"M_{i} + Δ_{j}",
            _over(families, lambda n, i=i: n.base(i, "unseen")),
            _over(families, lambda n, i=i: n.tuned(i, what="unseen")),
            _over(families, lambda n, i=i, j=j: n.tuned(j, i, what="unseen")),
            _over(families, lambda n, i=i: n.tuned(i, what="text_loss"), ".2f"),
            _over(families, lambda n, i=i, j=j: n.tuned(j, i, what="text_loss"), ".2f"),
        ]
        for j, i in _recycled(results)
    ]
    return table(
        (
            "start",
            "M_i: products",
            "FT(M_i): products",
            "→ FT: products",
            "FT(M_i): text loss",
            "→ FT: text loss",
        ),
        rows,
    )


def _iterative(results: dict[str, Any]) -> str:
    families = results["families"]
    rows = []
    for i in range(3, _count(results) + 1):
        starts = {"none": (i,), "dir": (i - 1, i), "iter": tuple(range(1, i + 1))}
        rows += [
            [
                f"M_{i}",
                name,
                _over(families, lambda n, s=s: n.curve(*s)[0][1]),
                _over(families, lambda n, s=s: n.tuned(*s)),
                _over(families, lambda n, s=s: n.steps_to_level(*s)),
            ]
            for name, s in starts.items()
        ]
    return table(("target", "Δ", "before fine-tuning", "after", "steps to the level"), rows)


def _cost(results: dict[str, Any]) -> str:
    families, machine = results["families"], results["machine"]
    processor = sum(family["processor_s"] for family in families)
    sizes = [size for family in families for size in family["adapter_bytes"].values()]
    return (
        f"{len(families)} families, {len(sizes)} fine-tunings and as many adapters of "
        f"{sum(sizes) / len(sizes) / 1e6:.1f} MB: {processor / 60:.0f} minutes of processor time "
        f"({processor / 60 / 2:.0f} minutes on two idle cores). Python {machine['python']}, torch "
        f"{machine['torch']}, transformers {machine['transformers']}, device {machine['device']}."
    )


BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "findings": _findings,
    "set-up": _setup,
    "bases": _bases,
    "table-3": _matrix,
    "equations": _equations,
    "table-4": _tuned,
    "figure-2": _steps,
    "table-5": _unseen,
    "table-6": _iterative,
    "cost": _cost,
}
