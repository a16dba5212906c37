"""The paper's findings as contrasts of numbers, and the rule that gives each its verdict.

Each finding is a number per seed that is above zero if the seed shows what the paper reports. With
the mean's 95% interval over the seeds, and the smallest effect that would matter:

- *reproduced*: the whole interval lies above zero, and the mean is at least that effect;
- *not reproduced*: the whole interval lies below that effect, so that it can be excluded;
- *not visible at this scale*: all else, the interval leaves both open.

A finding of the kind "no worse than" counts as shown when the number, plus the difference that is
tolerated, is above zero; its smallest effect is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from controlled_study.intervals import Interval
from controlled_study.numbers import Numbers

REPRODUCED, NOT, UNSEEN = "reproduced", "not reproduced", "not visible at this scale"

POINTS = 2.0
"""Points of accuracy: the smallest difference that matters, and the one tolerated."""


@dataclass(frozen=True)
class Finding:
    """A claim of the paper that this study can test.

    Attributes:
        where: In the paper.
        claim: In words.
        paper: Its numbers.
        contrast: A seed's number, above zero if it shows the claim.
        unit: Of that number.
        least: The smallest effect that matters.
        tolerated: For "no worse than": the difference that does not count.
    """

    where: str
    claim: str
    paper: str
    contrast: Callable[[Numbers], float]
    unit: str = "points"
    least: float = POINTS
    tolerated: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A finding and what was seen of it."""

    finding: Finding
    seen: Interval
    verdict: str


def judge(interval: Interval, least: float, tolerated: float = 0.0) -> str:
    """The verdict that the rule above gives."""
    low, high, mean = (value + tolerated for value in (interval.low, interval.high, interval.mean))
    if low > 0 and mean >= least:
        return REPRODUCED
    return NOT if high < least or high < 0 else UNSEEN


def outcomes(families: Sequence[dict[str, Any]]) -> list[Outcome]:
    """All findings on the families of a study."""
    numbers = [Numbers(family) for family in families]
    found = []
    for finding in findings(numbers[0].count):
        seen = Interval.of([finding.contrast(one) for one in numbers])
        found.append(Outcome(finding, seen, judge(seen, finding.least, finding.tolerated)))
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def findings(count: int) -> list[Finding]:
    """The paper's findings for a family of `count` versions, the last two in mid-training."""
    early, late = range(1, count - 1), range(count - 1, count + 1)
    last = count
    return [
        Finding(
            "Table 3",
            f"M_{last} + Δ_{last - 1} is no worse than fine-tuning M_{last}",
            "77.1 against 75.5",
            lambda n: n.plus(last, last - 1) - n.tuned(last),
            least=0.0,
            tolerated=POINTS,
        ),
        Finding(
            "Table 3",
            f"M_{last - 1} + Δ_{last} stays close to fine-tuning M_{last - 1} "
            "(the paper's difference is tolerated: 2.8 points)",
            "72.9 against 75.7",
            lambda n: n.plus(last - 1, last) - n.tuned(last - 1),
            least=0.0,
            tolerated=2.8,
        ),
        Finding(
            "Table 3",
            f"the best M_i + Δ_j of the early versions (i ≤ {count - 2}) stays below "
            "fine-tuning M_i",
            "by 26.1, 24.1 and 20.6",
            lambda n: _mean([n.tuned(i) - n.best_from_others(i) for i in early]),
        ),
        Finding(
            "Table 3",
            "the stronger the target, the smaller that gap: early minus late versions",
            "23.6 against 0.6",
            lambda n: (
                _mean([n.tuned(i) - n.best_from_others(i) for i in early])
                - _mean([n.tuned(i) - n.best_from_others(i) for i in late])
            ),
        ),
        Finding(
            "Table 3",
            f"near beats far: M_{last} + Δ_{last - 1} above M_{last} + Δ_1",
            "77.1 against 19.6",
            lambda n: n.plus(last, last - 1) - n.plus(last, 1),
        ),
        Finding(
            "Table 3",
            f"a far Δ harms: M_{last} + Δ_1 below M_{last}, asked as M_{last} can "
            "answer (here: in equations)",
            "19.6 against 65.5",
            lambda n: n.base(last, "task_equations") - n.plus(last, 1, "task_equations"),
        ),
        Finding(
            "Table 4",
            "fine-tuning after a transfer between neighbours ends higher than without",
            "50.1 against 45.1 (M_1 + Δ_2)",
            lambda n: _mean([n.tuned(j, i) - n.tuned(i) for j, i in n.neighbours]),
        ),
        Finding(
            "Table 4",
            f"a far Δ does not hurt once fine-tuned: M_{last} + Δ_1 → FT no worse than "
            f"fine-tuning M_{last}",
            "78.6 against 75.5",
            lambda n: n.tuned(1, last) - n.tuned(last),
            least=0.0,
            tolerated=POINTS,
        ),
        Finding(
            "Figure 2",
            "it converges faster: steps saved to 90% of fine-tuning's accuracy, neighbours",
            "curves",
            lambda n: _mean([n.saved(j, i) for j, i in n.neighbours]),
            unit="% of the steps",
            least=10.0,
        ),
        Finding(
            "Table 5",
            "no harm on the unseen task: + Δ → FT no worse than fine-tuning alone, neighbours",
            "33.3 against 19.2 (M_4 + Δ_1)",
            lambda n: _mean(
                [n.tuned(j, i, what="unseen") - n.tuned(i, what="unseen") for j, i in n.neighbours]
            ),
            least=0.0,
            tolerated=POINTS,
        ),
        Finding(
            "Table 6",
            f"Δ^iter → FT ends above fine-tuning alone (M_3 … M_{last})",
            "by 3.0, 1.7 and 3.1",
            lambda n: _mean([n.tuned(*n.iterative(i)) - n.tuned(i) for i in range(3, last + 1)]),
        ),
        Finding(
            "Table 6",
            f"Δ^dir → FT ends above fine-tuning alone (M_3 … M_{last})",
            "by 2.3, 1.9 and 1.5",
            lambda n: _mean([n.tuned(i - 1, i) - n.tuned(i) for i in range(3, last + 1)]),
        ),
        Finding(
            "Table 6",
            "Δ^iter is no worse than Δ^dir",
            "+0.7, −0.2 and +1.6",
            lambda n: _mean(
                [n.tuned(*n.iterative(i)) - n.tuned(i - 1, i) for i in range(3, last + 1)]
            ),
            least=0.0,
            tolerated=POINTS,
        ),
        Finding(
            "Figure 4",
            f"Δ^iter converges faster than fine-tuning alone (M_3 … M_{last})",
            "curves",
            lambda n: _mean([n.saved(*n.iterative(i)) for i in range(3, last + 1)]),
            unit="% of the steps",
            least=10.0,
        ),
    ]
