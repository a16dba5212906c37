"""TRL's SFTTrainer that stops at the first loss that is no number and saves only sound states.

This module imports trl: import it where training begins, not before.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ftt_hub.errors import OutputError, RecycleError
from ftt_hub.support.progress import Progress
from ftt_hub.support.staging import output_error, write_atomic

_COMPLETE = "ftt_hub_complete"
"""Marks a checkpoint that was written to its end."""

_DISK_FULL = ("No space left", "File too large", "Disk quota", "inline_container", "file write")


class TrainingError(RecycleError):
    """Fine-tuning went wrong: a loss that is no number, no memory, a lost process."""


class Watcher(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Reports the Trainer's optimizer steps to our progress.

    Args:
        progress: Receives progress events.
        stage: Name of the stage.
    """

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage = progress, stage

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the stage; steps done before a kill count as done."""
        self._progress.start(self._stage, state.max_steps, "steps")
        self._progress.advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report one optimizer step."""
        self._progress.advance(1)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finish the stage."""
        self._progress.finish()


class SoundTrainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
    """An SFTTrainer whose checkpoints can be trusted.

    Raises from `train`:
        TrainingError: A loss or a weight is NaN or infinite; the last checkpoint is sound.
        OutputError: A checkpoint cannot be written; its remains are removed.
    """

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not math.isfinite(float(loss)):
            self._fail("the loss is not a number", found=float(loss))
        return loss

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Weight decay leaves out embeddings too, tied or not."""
        module = model.get_input_embeddings()  # type: ignore[operator]
        embeddings = {id(module.weight)}
        left_out = {name for name, p in model.named_parameters() if id(p) in embeddings}
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if name not in left_out]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is our own working file."""

    def require_sound(self) -> None:
        """Refuse weights that are NaN or infinite.

        Raises:
            TrainingError: Some are.
        """
        for name, parameter in self.model.named_parameters():
            local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            if not bool(torch.isfinite(local).all()):
                self._fail("a weight is not a number", found=name)

    def _fail(self, what: str, *, found: object) -> None:
        folder = last_checkpoint(Path(self.args.output_dir))
        kept = "nothing was saved before" if folder is None else f"the last sound one is {folder}"
        raise TrainingError(
            what,
            where=f"step {self.state.global_step + 1}",
            found=found,
            hint=f"Lower learning_rate, or set precision: float32; {kept}.",
        )

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.require_sound()
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with saving(folder):
            super()._save_checkpoint(model, trial)
        if self.args.should_save:
            write_atomic(folder / _COMPLETE, b"")


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turn what writers raise on a full disk into our error, and remove what they left.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise output_error(error, folder) from error
    except (SafetensorError, RuntimeError) as error:
        if not any(sign in str(error) for sign in _DISK_FULL):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(
            "cannot be written: the disk is full",
            where=folder,
            hint="Free some space, then run the command again; it goes on where it stopped.",
        ) from error


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{_COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def drop_unfinished(folder: Path) -> None:
    """Remove checkpoints that a kill cut short."""
    for path in folder.glob("checkpoint-*"):
        if not (path / _COMPLETE).is_file():
            shutil.rmtree(path, ignore_errors=True)
