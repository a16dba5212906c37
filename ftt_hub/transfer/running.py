"""A model that is run and then goes away: where it runs, and what happens when memory runs out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftt_hub.loss.measurement import LossError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def chosen_device(device: str | None = None) -> str:
    """The device named, else a CUDA device where there is one, else the processor."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def running(
    load: Callable[[], PreTrainedModel], *, where: object, hint: str, device: str | None = None
) -> Iterator[PreTrainedModel]:
    """Load a model, and free its memory at the end of the `with` block.

    Delete your own name for the model at the end of the block: what still refers to it keeps it in
    memory beside the next one.

    Args:
        load: Makes the model.
        where: Names the model in an error.
        hint: What to do when memory runs out.
        device: Torch device; default a CUDA device where there is one.

    Raises:
        LossError: Memory ran out while the model was loaded or used.
    """
    import torch

    try:
        model = load().to(chosen_device(device))  # type: ignore[arg-type]
        alive = weakref.ref(model)
        try:
            yield model
        finally:
            del model
            if alive() is not None:  # in a cycle of references
                gc.collect()
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise LossError("out of memory", where=where, hint=hint) from error
