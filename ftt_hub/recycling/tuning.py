"""Fine-tuning of one model: from a checkpoint folder to a checkpoint folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.checkpoint.headers import BEHAVIOUR_FILES, TOKENIZER_FILES
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.errors import RecycleError
from ftt_hub.recycling.ranks import Ranks
from ftt_hub.recycling.recipe import Training
from ftt_hub.recycling.settings import (
    batches,
    checkpointing_argument,
    on_cpu,
    use_bfloat16,
)
from ftt_hub.support.progress import Progress
from ftt_hub.support.staging import staged_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig

    from ftt_hub.recycling.rows import Rows
    from ftt_hub.recycling.trainer import SoundTrainer

_DROPOUT = ("dropout", "pdrop", "dropout_prob", "dropout_rate")
HISTORY = "training.json"


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning.

    Attributes:
        label: Name of the run, for loggers and messages.
        start: Folder of the model to begin with.
        rows: Training rows.
        work: Folder of checkpoints.
        out: Folder of the fine-tuned model.
        training: Settings of the training.
        chat_template: Chat template for the model; default its own.
    """

    label: str
    start: Path
    rows: Rows
    work: Path
    out: Path
    training: Training
    chat_template: str | None = None

    def run(self, ranks: Ranks, progress: Progress) -> None:
        """Train, from the last checkpoint if there is one, and save.

        The weights are trained in float32 and saved in the dtype of the start.

        Raises:
            TrainingError: The loss is not a number, memory ran out, or a process was lost.
            OutputError: The disk is full.
        """
        from ftt_hub.recycling.trainer import TrainingError, drop_unfinished, last_checkpoint

        if ranks.leads:
            drop_unfinished(self.work)
        ranks.wait()
        trainer = self._trainer(ranks, progress)
        last = last_checkpoint(self.work)
        _guarded(
            lambda: trainer.train(resume_from_checkpoint=None if last is None else str(last)),
            TrainingError,
            self.label,
            ranks,
        )
        trainer.require_sound()
        self._save(trainer, ranks)

    def _trainer(self, ranks: Ranks, progress: Progress) -> SoundTrainer:
        from transformers import PrinterCallback, ProgressCallback
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        from ftt_hub.recycling.trainer import SoundTrainer, Watcher

        settings = self._settings(ranks)
        tokenizer = load_tokenizer(self.start, self.chat_template)
        pad = tokenizer.pad_token_id
        if pad is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        trainer = SoundTrainer(
            model=_load(self.start),
            args=settings,
            train_dataset=self.rows.open(),
            processing_class=tokenizer,
            data_collator=DataCollatorForLanguageModeling(pad_token_id=pad or 0),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        if ranks.leads:
            trainer.add_callback(Watcher(progress, f"training {self.label}"))
        return trainer

    def _settings(self, ranks: Ranks) -> SFTConfig:
        from trl import SFTConfig

        training = self.training
        device, accumulation = batches(training, ranks.count)
        given: dict[str, Any] = {
            "output_dir": str(self.work),
            "run_name": self.label,
            "optim": "adamw_torch",
            "learning_rate": training.learning_rate,
            "lr_scheduler_type": training.schedule,
            "warmup_steps": training.warmup if training.warmup < 1 else 1.0,
            "weight_decay": training.weight_decay,
            "per_device_train_batch_size": device,
            "gradient_accumulation_steps": accumulation,
            "num_train_epochs": training.epochs,
            "max_steps": training.max_steps or -1,
            "max_length": training.sequence_length,
            "seed": training.seed,
            "save_strategy": "steps",
            "save_steps": training.checkpoint_steps,
            "save_total_limit": 2,
            "logging_steps": training.logging_steps,
            "logging_nan_inf_filter": False,
            "report_to": list(training.report_to),
            checkpointing_argument(): training.gradient_checkpointing,
            "bf16": use_bfloat16(training),
            "use_cpu": on_cpu(training),
            "dataloader_pin_memory": not on_cpu(training),
            "disable_tqdm": True,
            "log_level": "error",
            "log_level_replica": "error",
            "ddp_find_unused_parameters": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        try:
            return SFTConfig(**{**given, **training.arguments})
        except (ValueError, TypeError, ImportError) as error:
            raise RecycleError(
                "the Trainer refuses the training settings", found=str(error)[:200]
            ) from error

    def _save(self, trainer: SoundTrainer, ranks: Ranks) -> None:
        from ftt_hub.recycling.trainer import saving

        wrapped = trainer.deepspeed if trainer.is_deepspeed_enabled else trainer.model
        state = trainer.accelerator.get_state_dict(wrapped)
        if ranks.leads:
            dtype = _dtype(self.start)
            model = trainer.accelerator.unwrap_model(trainer.model)
            with saving(self.out), staged_folder(self.out) as folder:
                model.save_pretrained(folder, state_dict=_cast(state, dtype), max_shard_size="5GB")
                self._companions(folder)
                history = json.dumps(trainer.state.log_history, indent=1)
                (folder / HISTORY).write_text(history + "\n", encoding="utf-8")
        ranks.wait()

    def _companions(self, folder: Path) -> None:
        """Everything but the weights is the start's, byte for byte."""
        for name in ("config.json", *TOKENIZER_FILES, *BEHAVIOUR_FILES):
            (folder / name).unlink(missing_ok=True)
            if (self.start / name).is_file():
                shutil.copyfile(self.start / name, folder / name)
        if self.chat_template is not None:
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")


def _guarded(
    train: Callable[[], object], error_type: type[RecycleError], label: str, ranks: Ranks
) -> None:
    import torch

    try:
        train()
    except torch.OutOfMemoryError as error:
        raise error_type(
            "out of memory",
            where=f"training {label}",
            hint="Lower per_device_batch_size or sequence_length, or set gradient_checkpointing.",
        ) from error
    except RuntimeError as error:
        if ranks.count == 1:
            raise
        raise error_type(
            "another process of the launch was lost",
            where=f"training {label}",
            found=str(error)[:160],
            hint="Launch the command again; it goes on from the last checkpoint.",
        ) from error


def load_tokenizer(folder: Path, chat_template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with the recipe's chat template if it names one."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def _load(folder: Path) -> PreTrainedModel:
    """The model in float32 without dropout."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    for key, value in vars(config).items():
        if key.endswith(_DROPOUT) and isinstance(value, float):
            setattr(config, key, 0.0)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32
    )
    return model


def _cast(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The floats in another dtype; tensors that are tied stay tied, and so are saved once."""
    made: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for tensor in state.values():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in made:
            made[key] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return {name: made[t.data_ptr(), t.shape] for name, t in state.items()}


def _dtype(folder: Path) -> torch.dtype:
    """The dtype of most weights of a checkpoint."""
    import torch

    with Checkpoint(folder) as checkpoint:
        counts: Counter[str] = Counter()
        for info in checkpoint.tensors.values():
            if info.dtype.is_float and info.dtype.torch_name is not None:
                counts[info.dtype.torch_name] += info.count
    dtype: torch.dtype = getattr(torch, counts.most_common(1)[0][0])
    return dtype
