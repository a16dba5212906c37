"""What a step is made from: a finished step stays valid only while all of it stays the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftt_hub.recycling.recipe import RecycleRecipe

_FREE_TO_CHANGE = (
    "logging_steps",
    "report_to",
    "checkpoint_steps",
    "per_device_batch_size",
    "device",
)
"""Settings that do not change what is learned, so that a run can continue with others."""


def step_inputs(
    recipe: RecycleRecipe,
    base: str,
    parent: str | None,
    rows: tuple[Path, Path | None],
    digest_of: Callable[[Path], str],
) -> dict[str, Any]:
    """Content hashes and settings of a step.

    Args:
        recipe: The recipe.
        base: Identity of the base version.
        parent: Content digest of the adapter that is recycled, ``None`` without one.
        rows: Files of training rows and of held-out rows.
        digest_of: Returns the sha256 of a file.
    """
    train, validation = rows
    template = recipe.data.chat_template
    training = asdict(recipe.training)
    for key in _FREE_TO_CHANGE:
        del training[key]
    return {
        "base": base,
        "parent": parent,
        "training rows": digest_of(train),
        "held-out rows": None if validation is None else digest_of(validation),
        "chat template": None if template is None else digest_of(template),
        "codec": asdict(recipe.coding),
        "evaluation": recipe.evaluation,
        **training,
    }
