"""The settings of Lin et al. 2025 (Tables 13 and 14), shipped as files: `--setting gsm8k`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from ftt_hub.errors import FttError

_FOLDER = "settings"


@dataclass(frozen=True)
class Setting:
    """How a task is asked.

    Attributes:
        task: Name in the harness.
        num_fewshot: Examples before the question; ``None``: as the task says.
        chat_template: Ask in the model's chat template, few-shot examples as turns; models
            without a template are asked plainly.
        generation: Arguments of generation that differ from the task's.
        metrics: The metrics to show, ``name,filter``; empty: all.
    """

    task: str
    num_fewshot: int | None = None
    chat_template: bool = False
    generation: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()


@cache
def setting_names() -> tuple[str, ...]:
    """Names of the shipped settings, sorted."""
    folder = files("ftt_hub.evaluation").joinpath(_FOLDER)
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read_setting(name: str) -> Setting:
    """A shipped setting.

    Raises:
        FttError: There is none of that name.
    """
    import yaml

    if name not in setting_names():
        raise FttError(
            "no such setting", where=name, expected=f"one of {', '.join(setting_names())}"
        )
    path = files("ftt_hub.evaluation").joinpath(_FOLDER, f"{name}.yaml")
    value: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Setting(**{**value, "metrics": tuple(value.get("metrics", ()))})
