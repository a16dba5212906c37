"""What a `TransferAdapter` can do to a model in memory; torch loads when it is done."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.support.findings import CompatibilityReport

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ftt_hub.registry.open import HasAdapter


class OnModels:
    """Methods for models in memory, of a class that has `opened`."""

    def apply_to(
        self: HasAdapter,
        model: PreTrainedModel,
        *,
        scale: float = 1.0,
        tokenizer: str | Path | None = None,
        force: bool = False,
        source_base: str | Path | None = None,
    ) -> CompatibilityReport:
        """Add scale·Δ to a model in memory; `remove_from` gives its weights back bit for bit.

        Memory: the model, an undo log (a few per cent of it for a small Δ), and a few tensors.
        The model has all of Δ afterwards or, after an error or Ctrl-C, none of it.

        Args:
            model: A transformers model, also sharded (DTensor, FSDP2); not quantized, offloaded.
            scale: Task-arithmetic coefficient λ.
            tokenizer: Folder or reference of the model's tokenizer, by which the rows of
                another vocabulary are aligned; default where the model was loaded from.
            force: Go on in spite of a rejection.
            source_base: m_s, a folder or Hub reference, which only ``anchored`` adapters read,
                also when they are taken off.

        Returns:
            What was found, the rows added, aligned and left included.

        Raises:
            AlreadyAppliedError: The model holds this adapter.
            IncompatibleError: The adapter does not fit.
            UnsupportedError: The weights are quantized or not in memory.
            IntegrityError: The adapter is damaged.
            DeviceMemoryError: The device has no memory left; the model is as it was.
        """
        from ftt_hub.transfer.live import verbs

        return verbs.apply_to(
            self.opened, model, scale=scale, tokenizer=tokenizer, force=force,
            source_base=source_base,
        )  # fmt: skip

    def remove_from(self: HasAdapter, model: PreTrainedModel) -> None:
        """Take the adapter off a model: the weights are bit for bit as if it had never been there.

        Other adapters on the model stay, in whatever order they came.

        Raises:
            FttError: It is not on the model, or the weights were changed since.
        """
        from ftt_hub.transfer.live import verbs

        verbs.remove_from(self.opened, model)

    def set_scale(self: HasAdapter, model: PreTrainedModel, scale: float) -> None:
        """Change λ of the adapter on a model, from the target's own bits.

        Raises:
            FttError: It is not on the model, or the scale is not finite.
        """
        from ftt_hub.transfer.live import verbs

        verbs.set_scale(self.opened, model, scale)

    def swap(
        self: HasAdapter,
        other: HasAdapter,
        model: PreTrainedModel,
        *,
        scale: float = 1.0,
        source_base: str | Path | None = None,
    ) -> CompatibilityReport:
        """Put another adapter in this one's place, a parameter at a time.

        Raises:
            FttError: This one is not on the model, or the other one is.
            IncompatibleError: The other does not fit; this one stays.
        """
        from ftt_hub.transfer.live import verbs

        return verbs.swap(self.opened, other.opened, model, scale=scale, source_base=source_base)

    def applied(
        self: HasAdapter,
        model: PreTrainedModel,
        *,
        scale: float = 1.0,
        tokenizer: str | Path | None = None,
        source_base: str | Path | None = None,
    ) -> AbstractContextManager[PreTrainedModel]:
        """`apply_to` on entering a `with` block, `remove_from` on leaving it."""
        from ftt_hub.transfer.live import verbs

        return verbs.applied(
            self.opened, model, scale=scale, tokenizer=tokenizer, source_base=source_base
        )

    def tokenizer(
        self: HasAdapter, base_model: str | Path | None = None
    ) -> PreTrainedTokenizerBase:
        """The tokenizer for a model with this adapter on it, with the fine-tuned chat template.

        Args:
            base_model: The target; default the source base. Asked only when the adapter brings no
                tokenizer of its own.

        Raises:
            RefError: The target names nothing.
        """
        from ftt_hub.transfer.tokenizer import load_tokenizer

        return load_tokenizer(self.opened, base_model)
