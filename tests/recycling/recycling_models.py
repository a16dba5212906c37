"""Base versions, rows and recipes for the tests of the development loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from models import WORDS, config, drifted, random_state, save_model

CHAT = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' + m['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)


def make_bases(root: Path, count: int = 3, **options: Any) -> list[Path]:
    """M_1 … M_n, each a small drift from the one before, in bfloat16."""
    state = random_state(0)
    folders = []
    for number in range(count):
        folders.append(save_model(root / f"m{number + 1}", state, config(), **options))
        state = drifted(state, 10 + number, 0.02)
    return folders


def text_rows(count: int, *, first: int = 0) -> list[dict[str, str]]:
    """Counting upwards: a pattern that a tiny model can begin to learn."""
    return [
        {"text": " ".join(WORDS[3 + (row + k) % 20] for k in range(24))}
        for row in range(first, first + count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_recipe(root: Path, bases: list[Path], **changes: Any) -> Path:
    """A recipe that trains some steps in a second; `training` is merged into its own."""
    training = {
        "learning_rate": 2e-3,
        "batch_size": 4,
        "max_steps": 6,
        "sequence_length": 32,
        "checkpoint_steps": 2,
        "logging_steps": 1,
        "device": "cpu",
    }
    training.update(changes.pop("training", {}))
    value: dict[str, Any] = {
        "bases": [str(base) for base in bases],
        "dataset": {"train": "train.jsonl", "validation": "held_out.jsonl"},
        "training": training,
        "out": "out",
    }
    value.update(changes)
    if not (root / "train.jsonl").exists():
        write_rows(root / "train.jsonl", text_rows(24))
        write_rows(root / "held_out.jsonl", text_rows(6, first=7))
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path
