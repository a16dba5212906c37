"""Greedy soup: ingredients are added one by one and stay only if a command scores the mix higher.

Wortsman et al. 2022, "Model soups", recipe 1.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ftt_hub.combining.recipe import Ingredient, Recipe
from ftt_hub.errors import FttError


class ScoringError(FttError):
    """A scoring command failed, or printed no number."""


@dataclass(frozen=True)
class Soup:
    """The result of a greedy soup.

    Attributes:
        ingredients: Those that stayed, best first.
        score: Score of their average.
        tried: (Adapters of a mix, its score) in the order of the trials.
    """

    ingredients: tuple[Ingredient, ...]
    score: float
    tried: tuple[tuple[tuple[str, ...], float], ...]


def choose(
    ingredients: Sequence[Ingredient],
    score: Callable[[Sequence[Ingredient]], float],
    *,
    lower_is_better: bool = False,
) -> Soup:
    """Order the ingredients by their own score, then add each that does not make the mix worse.

    Args:
        ingredients: At least one.
        score: Scores the average of some of them.
        lower_is_better: Whether a smaller score is better.
    """
    sign = -1.0 if lower_is_better else 1.0
    tried: list[tuple[tuple[str, ...], float]] = []

    def judged(mix: Sequence[Ingredient]) -> float:
        value = score(mix)
        tried.append((tuple(_name(item) for item in mix), value))
        return sign * value

    alone = [judged([item]) for item in ingredients]
    order = sorted(range(len(ingredients)), key=lambda n: -alone[n])
    soup, best = [ingredients[order[0]]], alone[order[0]]
    for number in order[1:]:
        value = judged([*soup, ingredients[number]])
        if value >= best:
            soup, best = [*soup, ingredients[number]], value
    return Soup(tuple(soup), sign * best, tuple(tried))


def _name(item: Ingredient) -> str:
    if isinstance(item.adapter, Recipe):
        return Path(item.adapter.where or "recipe").name
    return str(item.adapter if isinstance(item.adapter, str | Path) else item.adapter.opened.label)


def run_command(command: Sequence[str], folder: Path, timeout: float | None) -> float:
    """The number on the last line of a command's output; no shell is involved.

    Raises:
        ScoringError: It cannot be run, fails, takes too long, or prints no finite number.
    """
    label = " ".join(command)[:120]
    try:
        done = subprocess.run(
            [*command, str(folder)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ScoringError(
            "the scoring command cannot be run", where=label, found=error.strerror
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ScoringError(
            "the scoring command takes too long", where=label, expected=f"≤ {timeout:g} s"
        ) from error
    if done.returncode:
        errors = done.stderr.strip().splitlines()
        raise ScoringError(
            f"the scoring command failed with exit code {done.returncode}",
            where=label,
            found=errors[-1][:200] if errors else "no message",
        )
    lines = done.stdout.strip().splitlines()
    try:
        value = float(lines[-1]) if lines else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ScoringError(
            "the scoring command printed no number on its last line",
            where=label,
            found=repr(lines[-1][:80]) if lines else "nothing",
        )
    return value


def as_average(recipe: Recipe, soup: Soup) -> Recipe:
    """The recipe of a chosen soup; its manifest keeps the score and the number of trials."""
    facts = {"soup": {"score": soup.score, "trials": len(soup.tried)}}
    return replace(
        recipe, ingredients=soup.ingredients, method="average", parameters={}, provenance=facts
    )
