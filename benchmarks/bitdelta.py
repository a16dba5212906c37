"""BitDelta's second stage: the scales of all matrices trained to give m'_s's logits again.

As in its code: the mean squared difference of the logits of m_s + scale · sign to those of m'_s,
minimised over the scales alone. Fewer steps, so they are taken in the logarithm of the scales,
where all are of one size, and on text of the fine-tuning itself instead of English web pages.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from peers import signs
from stored import Matrix, Stored
from transformers import AutoModelForCausalLM, AutoTokenizer

STEPS, BATCH, LENGTH, RATE = 40, 2, 128, 0.05


def store(delta: Matrix, scale: float) -> Stored:
    """Sign and this scale."""
    return Stored(signs(delta, 0) * np.float32(scale), delta.size + 32)


def train(source: Path, tuned: Path, text: Path) -> dict[str, float]:
    """The trained scale of each matrix."""
    teacher = AutoModelForCausalLM.from_pretrained(tuned, dtype=torch.bfloat16).eval()
    student = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).eval()
    wanted = dict(teacher.named_parameters())
    matrices = {n: p for n, p in student.named_parameters() if p.dim() == 2}
    base = {n: p.detach().clone() for n, p in matrices.items()}
    change, logs = {}, {}
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name not in matrices:
                parameter.copy_(wanted[name])
                parameter.requires_grad_(False)
                continue
            delta = wanted[name].float() - base[name].float()
            change[name] = torch.from_numpy(signs(delta.numpy(), 0)).bfloat16()
            logs[name] = delta.abs().mean().log()
    optimizer = torch.optim.Adam(list(logs.values()), lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step, batch in enumerate(_batches(tuned, text)):
        with torch.no_grad():
            for name, parameter in matrices.items():
                parameter.copy_(base[name].float() + logs[name].exp() * change[name])
                parameter.grad = None
            aim = teacher(input_ids=batch, use_cache=False).logits.float()
        loss = (student(input_ids=batch, use_cache=False).logits.float() - aim).square().mean()
        loss.backward()
        with torch.no_grad():
            for name, parameter in matrices.items():
                slope = (parameter.grad.float() * change[name]).sum()
                logs[name].grad = slope * logs[name].exp()
        optimizer.step()
        falling.step()
        print(f"BitDelta step {step + 1}: {loss.item():.4f}", flush=True)
    return {name: float(log.exp()) for name, log in logs.items()}


def _batches(model: Path, text: Path) -> tuple[torch.Tensor, ...]:
    """Windows of the text, in random order."""
    ids = AutoTokenizer.from_pretrained(model)(text.read_text(encoding="utf-8"))["input_ids"]
    windows = torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    return torch.split(windows[order[: STEPS * BATCH]], BATCH)
