"""Plain training loops in PyTorch: float32 weights, AdamW, a schedule, batches from an iterator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from controlled_study.settings import StudyError

_CLIP = 1.0
_SMALL = ("norm", "embed")
_LOOK = 50

Batch = dict[str, torch.Tensor]
Rate = Callable[[int], float]


def device_of(name: str) -> torch.device:
    """The device that a configuration names.

    Raises:
        StudyError: It asks for a GPU and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise StudyError("no GPU", hint="Set device to auto or cpu in the configuration.")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def optimizer_of(model: PreTrainedModel, weight_decay: float) -> torch.optim.AdamW:
    """AdamW, without weight decay on embeddings and norms."""
    small = {name: any(part in name for part in _SMALL) for name, _ in model.named_parameters()}
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if small[name] == chosen],
            "weight_decay": 0.0 if chosen else weight_decay,
        }
        for chosen in (False, True)
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)


@dataclass
class Trainer:
    """A model in training.

    Attributes:
        model: On its device.
        optimizer: AdamW.
        rate: Step (from 0) → learning rate.
        precision: Of the forward pass.
        step: Steps done.
    """

    model: PreTrainedModel
    optimizer: torch.optim.AdamW
    rate: Rate
    precision: str = "float32"
    step: int = 0

    def run(self, batches: Iterator[Batch], until: int) -> None:
        """Train up to a step.

        Raises:
            StudyError: The loss is not a number.
        """
        device = self.model.device
        self.model.train()
        while self.step < until:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(self.step)
            batch = {name: tensor.to(device) for name, tensor in next(batches).items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                loss = self.model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            if self.step % _LOOK == 0 and not math.isfinite(loss.item()):
                raise StudyError("the loss is not a number", where=f"step {self.step}")


def falling(peak: float, warmup: int, start: int, end: int) -> Rate:
    """A linear rise over `warmup` steps, then `peak`, from `start` on falling to zero at `end`."""

    def rate(step: int) -> float:
        risen = min(1.0, (step + 1) / warmup) if warmup else 1.0
        left = min(1.0, (end - step) / (end - start)) if end > start else 1.0
        return peak * min(risen, left)

    return rate


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Rows of (what is given, what is to be learned) as a batch, padded on the right."""
    length = max(len(given) + len(learned) for given, learned in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (given, learned) in enumerate(rows):
        end = len(given) + len(learned)
        ids[row, :end] = torch.tensor(given + learned)
        labels[row, len(given) : end] = torch.tensor(learned)
    return {"input_ids": ids, "labels": labels}
