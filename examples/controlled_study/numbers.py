"""One family's results, by the names that the paper's tables use; accuracies in points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

LEVEL = 0.9
"""Steps are counted to this share of what fine-tuning M_i alone ends with."""


@dataclass(frozen=True)
class Numbers:
    """The results of a seed.

    Attributes:
        family: As `study.collect` gives them.
    """

    family: dict[str, Any]

    @cached_property
    def count(self) -> int:
        """How many versions there are."""
        return sum(name.startswith("M_") and "+" not in name for name in self.family["scores"])

    @property
    def versions(self) -> range:
        """1 … n."""
        return range(1, self.count + 1)

    def base(self, i: int, what: str = "task") -> float:
        """M_i: the task, the `unseen` one, either as `…_equations`, or the `text_loss`."""
        return self._score(f"M_{i}", what)

    def plus(self, i: int, j: int, what: str = "task") -> float:
        """M_i + Δ_j."""
        return self._score(f"M_{i} + Δ_{j}", what)

    def tuned(self, *versions: int, what: str = "task") -> float:
        """FT(M_i) for (i), FT(M_i + Δ_j) for (j, i), and so on as in Algorithm 1."""
        if len(versions) == 1:
            return self.plus(versions[0], versions[0], what)
        return self._score("-".join(map(str, versions)), what)

    def iterative(self, i: int) -> tuple[int, ...]:
        """The step whose Δ is Δ_i^iter."""
        return tuple(range(1, i + 1))

    def best_from_others(self, i: int) -> float:
        """The best M_i + Δ_j, j ≠ i."""
        return max(self.plus(i, j) for j in self.versions if j != i)

    @property
    def neighbours(self) -> list[tuple[int, int]]:
        """All (j, i) with |j − i| = 1."""
        return [(j, i) for i in self.versions for j in (i - 1, i + 1) if j in self.versions]

    def curve(self, *versions: int) -> list[tuple[int, float]]:
        """Steps and accuracy on the way."""
        points = self.family["curves"]["-".join(map(str, versions))]
        return [(point["step"], 100 * point["task"]) for point in points]

    def level(self, i: int) -> float:
        """The accuracy to which steps are counted."""
        return LEVEL * self.curve(i)[-1][1]

    def steps_to_level(self, *versions: int) -> float:
        """Steps until the level is reached, straight between points; all if it never is."""
        level = self.level(versions[-1])
        curve = self.curve(*versions)
        before = curve[0]
        for step, accuracy in curve:
            if accuracy >= level:
                rise = accuracy - before[1]
                part = (level - before[1]) / rise if rise else 0.0
                return before[0] + max(0.0, part) * (step - before[0])
            before = (step, accuracy)
        return float(curve[-1][0])

    def saved(self, *versions: int) -> float:
        """Per cent of the steps to the level that this start saves over M_i."""
        alone = self.steps_to_level(versions[-1])
        return 100 * (1 - self.steps_to_level(*versions) / alone) if alone else 0.0

    def _score(self, name: str, what: str) -> float:
        value = self.family["scores"][name][what]
        return float(value if what == "text_loss" else 100 * value)
