"""What a model can do: exact answers by generating, and the loss on text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from controlled_study.tasks import END, EQUATION, Problem

_BATCH = 512
_LONGEST_ANSWER = 6


@dataclass(frozen=True)
class Questions:
    """What every model of a study is asked.

    Attributes:
        tokenizer: Of the family.
        task: Held-out problems of the task.
        unseen: Problems of a task that no fine-tuning shows.
        text: Held-out windows of general text, as token ids.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Sequence[Problem]
    unseen: Sequence[Problem]
    text: torch.Tensor

    def ask(self, model: PreTrainedModel) -> dict[str, float]:
        """All scores of a model."""
        return {
            "task": self.accuracy(model),
            "unseen": share_right(model, self.tokenizer, self.unseen, chat=True),
            "task_equations": share_right(model, self.tokenizer, self.task, chat=False),
            "unseen_equations": share_right(model, self.tokenizer, self.unseen, chat=False),
            "text_loss": text_loss(model, self.text),
        }

    def accuracy(self, model: PreTrainedModel) -> float:
        """Share of the task's problems that are answered exactly."""
        return share_right(model, self.tokenizer, self.task, chat=True)


def share_right(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    *,
    chat: bool,
) -> float:
    """Share of greedy answers that equal the right one, character by character.

    In a chat the answer ends at the end token. Else the model is asked as pretraining wrote it,
    "9 - 4 =", and answers up to the line's end or the end token.
    """
    prompts = [p.prompt if chat else EQUATION.format(p.expression) for p in problems]
    texts: list[str] = []
    model.eval()
    for first in range(0, len(prompts), _BATCH):
        batch = tokenizer(prompts[first : first + _BATCH], padding=True, return_tensors="pt")
        batch = batch.to(model.device)
        with torch.inference_mode():
            ids = model.generate(
                **batch,
                max_new_tokens=_LONGEST_ANSWER,
                do_sample=False,
                eos_token_id=1,
                pad_token_id=0,
            )
        texts += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :])
    ends = (END,) if chat else ("\n", END)
    right = [
        any(end in text and text.split(end)[0].strip() == problem.answer for end in ends)
        for text, problem in zip(texts, problems, strict=True)
    ]
    return sum(right) / len(right)


def text_loss(model: PreTrainedModel, windows: torch.Tensor) -> float:
    """Mean loss of general text, nats per token."""
    model.eval()
    with torch.inference_mode():
        return float(
            torch.stack(
                [
                    model(input_ids=part, labels=part).loss * len(part)
                    for part in windows.to(model.device).split(_BATCH // 8)
                ]
            ).sum()
            / len(windows)
        )
