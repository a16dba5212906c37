"""What a recipe's training settings mean on this machine: batches, device, precision."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ftt_hub.errors import RecycleError

if TYPE_CHECKING:
    from ftt_hub.recycling.recipe import Training


def check_arguments(training: Training) -> None:
    """Refuse arguments that SFTConfig does not know, or that are not for the recipe to set.

    Raises:
        RecycleError: Names the first of them, or a logger that is not installed.
    """
    from transformers.integrations.integration_utils import get_available_reporting_integrations
    from trl import SFTConfig

    available = get_available_reporting_integrations()  # type: ignore[no-untyped-call]
    for name in training.report_to:
        if name not in (*available, "none"):
            raise RecycleError(
                "not installed, or unknown",
                where=f"report_to: {name[:60]}",
                expected=", ".join(available) or "none",
                hint=f"pip install {name[:60]}",
            )

    known = {field.name for field in fields(SFTConfig) if field.init}
    fixed = {"output_dir", "max_length", "dataset_kwargs", "save_strategy", "push_to_hub"}
    for name in training.arguments:
        if name not in known:
            raise RecycleError(f"SFTConfig has no argument {name[:60]!r}", where="arguments")
        if name in fixed:
            raise RecycleError(f"{name} is set by the recipe itself", where="arguments")


def checkpointing_argument() -> str:
    """The argument's name: transformers 5.20 renamed it."""
    from trl import SFTConfig

    known = {field.name for field in fields(SFTConfig)}
    new = "activation_checkpointing"
    return new if new in known else "gradient_checkpointing"


def batches(training: Training, processes: int) -> tuple[int, int]:
    """Rows of a forward pass on one device, and forward passes of an optimizer step.

    Raises:
        RecycleError: The batch cannot be shared out evenly.
    """
    share, rest = divmod(training.batch_size, processes)
    device = training.per_device_batch_size or max(share, 1)
    if rest or share % device:
        raise RecycleError(
            "batch_size cannot be shared out evenly",
            expected="a multiple of processes × per_device_batch_size",
            found=f"{training.batch_size} over {processes} × {device}",
        )
    return device, share // device


def on_cpu(training: Training) -> bool:
    """Whether training runs on the processor.

    Raises:
        RecycleError: The recipe asks for a GPU and there is none.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if training.device == "cuda" and not has_gpu:
        raise RecycleError(
            "the recipe asks for a GPU and there is none",
            expected="a CUDA device",
            found=f"torch {torch.__version__} without one",
            hint="Install torch for CUDA and its driver, or set device: auto.",
        )
    return training.device == "cpu" or not has_gpu


def check_devices(training: Training, processes: int) -> None:
    """Refuse batches that cannot be shared out, and several GPUs in one process, as TRL does.

    Raises:
        RecycleError: Either is the case.
    """
    import torch

    batches(training, processes)
    if processes == 1 and not on_cpu(training) and torch.cuda.device_count() > 1:
        raise RecycleError(
            "several GPUs and one process",
            found=f"{torch.cuda.device_count()} GPUs",
            hint="Run accelerate launch -m ftt_hub.cli recycle RECIPE, or let "
            "CUDA_VISIBLE_DEVICES name one.",
        )


def use_bfloat16(training: Training) -> bool:
    """Whether the forward pass runs in bfloat16."""
    if training.precision != "auto":
        return training.precision == "bfloat16"
    import torch

    return not on_cpu(training) and torch.cuda.is_bf16_supported()
