"""Questions with one right answer, made by reasoning-gym.

The task asks for sums and differences in words ("What is 9 - 4?"). The mid-training mix holds all
of them in another form ("9 - 4 = 5"), and products, which no fine-tuning asks for: the unseen task.
Fine-tuning asks about some of the sums, the held-out questions are about others: what is measured
is whether a model answers from what its pretraining taught it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

from controlled_study.settings import StudyError

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
_STRIDE = 10_000_000
"""reasoning-gym seeds problem i with seed + i: streams this far apart share nothing."""
_HELD_OUT_STREAM = 0
EQUATION = " {} ="
"""The form in which a base version is asked what it knows."""
_FORMS = (
    " {} = {}\n",
    " {} is {}\n",
    " so {} = {}\n",
    " {}: the result is {}\n",
    " ( {} ) = {}\n",
    " the value of {} is, then, {}\n",
)
"""How pretraining writes a problem with its answer: none is the form of fine-tuning."""
_DRAWN = 100
"""Problems looked at for each that is wanted."""
_WORDINGS = 4
"""Questions on an expression, on average at most."""
_PRODUCTS = 100


@dataclass(frozen=True)
class Problem:
    """A question.

    Attributes:
        expression: What is to be computed; the same for all wordings.
        question: In words.
        answer: The number.
    """

    expression: str
    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """As a fine-tuned model is asked."""
        return f"{USER}{self.question}{ASSISTANT}"

    @property
    def reply(self) -> str:
        """As it should answer."""
        return f" {self.answer}{END}"


def problems(operators: str, digits: int, stream: int) -> Iterator[Problem]:
    """An endless stream of problems with two terms.

    Raises:
        StudyError: reasoning-gym is not installed.
    """
    try:
        from reasoning_gym.arithmetic.basic_arithmetic import (
            BasicArithmeticDataset,
            BasicArithmeticDatasetConfig,
        )
    except ModuleNotFoundError as error:
        raise StudyError(
            f"{error.name} is not installed", hint="Run pip install 'ftt-hub[study]'."
        ) from error
    config = BasicArithmeticDatasetConfig(
        min_terms=2,
        max_terms=2,
        min_digits=1,
        max_digits=digits,
        operators=list(operators),
        allow_parentheses=False,
        allow_negation=False,
        format_style="natural",
        seed=stream * _STRIDE,
        size=_STRIDE,
    )
    made = BasicArithmeticDataset(config)
    for number in range(_STRIDE):
        row = made[number]
        yield Problem(row["metadata"]["expression"], row["question"], row["answer"])


def held_out(digits: int, count: int) -> list[Problem]:
    """Questions on `count` expressions of the task, in several wordings; the same for all models.

    Raises:
        StudyError: There are not so many.
    """
    return _asked("+-", digits, count)


def unseen() -> list[Problem]:
    """Products of two digits: the task that no fine-tuning shows."""
    return _asked("*", 1, _PRODUCTS)


def training(digits: int, stream: int, without: list[Problem]) -> Iterator[Problem]:
    """The task's questions for fine-tuning: none on a held-out expression, in whatever wording."""
    barred = {problem.expression for problem in without}
    return (p for p in problems("+-", digits, stream) if p.expression not in barred)


def equations(digits: int, stream: int) -> Iterator[str]:
    """Equations for pretraining, in several forms: two of the task's kind for each product."""
    sums = problems("+-", digits, stream)
    products = problems("*", 1, stream)
    for form in cycle(_FORMS):
        for problem in (*islice(sums, 2), next(products)):
            yield form.format(problem.expression, problem.answer)


def _asked(operators: str, digits: int, count: int) -> list[Problem]:
    """Different questions on the first `count` different expressions of a stream."""
    drawn = list(islice(problems(operators, digits, _HELD_OUT_STREAM), _DRAWN * count))
    chosen = list(dict.fromkeys(problem.expression for problem in drawn))[:count]
    if len(chosen) < count:
        raise StudyError("too few different problems", expected=count, found=len(chosen))
    wanted = set(chosen)
    found = {p.question: p for p in drawn if p.expression in wanted}
    return list(found.values())[: _WORDINGS * count]
