"""Fine-tuning: a plain causal language model loop in PyTorch.

Master weights are float32 and are rounded to bfloat16 once, when saved. Where the processor
multiplies bfloat16 natively, the forward pass sees the rounded weights too (autocast).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from demo.cache import built
from demo.checkpoint import load_model, load_tokenizer, save, tokenize
from demo.machine import compute_dtype
from demo.terminal import progress

_RUNNING_MEAN = 0.9


@dataclass(frozen=True)
class Recipe:
    """AdamW without weight decay; the rate rises over `warmup`, then falls linearly to zero."""

    steps: int
    learning_rate: float
    batch_size: int = 2
    length: int = 128
    warmup: float = 0.03
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, … `steps` - 1."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * (self.steps - step) / max(1, self.steps - rising)


def fine_tune(name: str, base: Path, text: str, recipe: Recipe, *, label: str) -> Path:
    """Return the folder beside `base` with `base` fine-tuned on `text`.

    The folder's name is `name` and a digest of base, text and recipe, so that a changed recipe
    never meets the model of an earlier one. A model that is there is not trained again.

    Raises:
        DemoError: The disk is full.
    """
    key = json.dumps([base.name, asdict(recipe), hashlib.sha256(text.encode()).hexdigest()])
    folder = base.with_name(f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}")
    build = partial(_build, base=base, text=text, recipe=recipe, label=label)
    return built(folder, build)


def _build(folder: Path, *, base: Path, text: str, recipe: Recipe, label: str) -> None:
    """Train and save one model."""
    model = load_model(base, dtype=torch.float32)
    train(model, tokenize(base, text), recipe, label=label)
    save(model, load_tokenizer(base), folder)


def train(model: PreTrainedModel, tokens: torch.Tensor, recipe: Recipe, *, label: str) -> None:
    """Train a float32 model in place on windows of `tokens` (1-D), in an order set by the seed."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
    dtype = compute_dtype()
    mean: float | None = None
    with progress() as bar:
        task = bar.add_task(label, total=recipe.steps, note="")
        for step, batch in enumerate(_batches(tokens, recipe)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            loss = _step(model, batch, optimizer, dtype)
            mean = loss if mean is None else _RUNNING_MEAN * mean + (1 - _RUNNING_MEAN) * loss
            bar.update(task, advance=1, note=f"loss {mean:.2f}")
    model.eval()  # type: ignore[no-untyped-call]


def _batches(tokens: torch.Tensor, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Yield `steps` batches of shape (batch_size, length); no window comes twice in an epoch."""
    windows = tokens[: len(tokens) // recipe.length * recipe.length].view(-1, recipe.length)
    generator = torch.Generator().manual_seed(recipe.seed)
    needed = recipe.steps * recipe.batch_size
    epochs = -(-needed // len(windows))
    order = torch.cat([torch.randperm(len(windows), generator=generator) for _ in range(epochs)])
    yield from torch.split(windows[order[:needed]], recipe.batch_size)


def _step(
    model: PreTrainedModel,
    batch: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    dtype: torch.dtype,
) -> float:
    """Do one optimizer step and return the loss before it, in nats per token."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = model(input_ids=batch, use_cache=False).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)  # mapping 540 MB anew at every step takes longer
    return loss.item()
