"""PEFT's layers put into the skeleton of a base, and every tensor of the adapter into them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.convert import skeleton
from ftt_hub.convert.peft_folder import WEIGHTS, PeftFolder
from ftt_hub.convert.vocabulary_rows import resize_to_saved
from ftt_hub.errors import CheckpointError
from ftt_hub.tensors.file import SafetensorsFile

HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight", "qa_outputs.weight")
_LISTED = 5
_SHARED = ("vblora_vector_bank", "prompt_encoder", ".tinylora_v.", ".unilora_theta_d.")
"""Parameters that layers share with the model, which PEFT stores once."""


def first_line(error: Exception) -> str:
    """The message of another library's error, on one line and bounded."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:240] or type(error).__name__


@dataclass(frozen=True)
class Injected:
    """PEFT's model over the skeleton.

    Attributes:
        model: PEFT's model, loaded.
        keys: Which parameter each checkpoint tensor became.
        rows: Rows of the embeddings where the adapter saves another number of them.
    """

    model: Any
    keys: dict[str, str]
    rows: int | None


def inject(base: Checkpoint, adapter: PeftFolder) -> Injected:
    """Load an adapter with PEFT onto the skeleton of its base.

    Raises:
        CheckpointError: PEFT cannot load it, or a part of it would not reach the model.
        UnsupportedError: transformers has no class for the base.
    """
    from peft import PeftConfig, PeftModel

    task = adapter.config.get("task_type")
    labels = next((i.shape[0] for n, i in adapter.tensors.items() if n.endswith(HEADS)), None)
    model, keys = skeleton.build(base, task if isinstance(task, str) else None, labels)
    rows = resize_to_saved(model, adapter.tensors)
    folder = str(adapter.folder)
    try:
        config = PeftConfig.from_pretrained(folder)
        if hasattr(config, "progressbar"):
            config.progressbar = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's notes are on training, not on merging
            made = PeftModel.from_pretrained(model, folder, config=config, torch_device="cpu")
            loaded = made.load_adapter(folder, "default", torch_device="cpu")  # says what is left
    except KeyError as error:
        raise CheckpointError(
            f"the adapter lacks a tensor or names an unknown method ({first_line(error)})",
            where=adapter.folder,
            hint="Upgrade peft if the method is newer than this one.",
        ) from error
    except (ValueError, RuntimeError, TypeError, ImportError) as error:
        raise CheckpointError(
            f"PEFT cannot put the adapter onto this base: {first_line(error)}",
            where=adapter.folder,
            hint=f"Is {base.label} the base it was trained on? If tokens were added before the "
            "training, save the adapter with save_embedding_layers=True.",
        ) from error
    _require_complete(adapter, base, loaded.unexpected_keys, loaded.missing_keys)
    return Injected(made, keys, rows)


def _is_copy(adapter: PeftFolder, name: str) -> bool:
    """Whether a tensor is only a second copy of a saved module's.

    PEFT writes embeddings that are among the modules to save once more, under their own name
    inside the wrapper, and ignores that copy when it loads them.
    """
    other = name.replace(".modules_to_save.", ".")
    if name == other or not {name, other} <= adapter.tensors.keys():
        return False
    first, second = adapter.tensors[name], adapter.tensors[other]
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    with SafetensorsFile(adapter.folder / WEIGHTS) as file:
        bits = [file.read_bits(info, 0, info.count) for info in (first, second)]
    return bool((bits[0] == bits[1]).all())


def _require_complete(
    adapter: PeftFolder, base: Checkpoint, unexpected: Sequence[str], missing: Sequence[str]
) -> None:
    """Refuse an adapter of which a part would not reach the model.

    Args:
        adapter: The adapter.
        base: The base.
        unexpected: The adapter's tensors that are nothing in the model.
        missing: The model's adapter parameters that the adapter does not hold.

    Raises:
        CheckpointError: There are some; the message lists them.
    """
    unexpected = [name for name in unexpected if not _is_copy(adapter, name)]
    lost = [name for name in missing if not any(part in name for part in _SHARED)]
    for names, what, hint in (
        (unexpected, "have no counterpart in the base", f"Is {base.label} the right base?"),
        (lost, "are missing", "The file is incomplete: save or download the adapter again."),
    ):
        if names:
            shown = sorted(name.replace(".default", "") for name in names)
            listed = ", ".join(shown[:_LISTED])
            rest = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
            raise CheckpointError(
                f"{len(shown)} tensors of the adapter {what}: {listed}{rest}",
                where=adapter.folder,
                hint=hint,
            )
