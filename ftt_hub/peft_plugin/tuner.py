"""PEFT's tuner for transfer adapters: Δ goes into the weights and comes off again exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.memory import MemoryContainer
from ftt_hub.errors import (
    AlreadyAppliedError,
    FttError,
    IncompatibleError,
    IntegrityError,
    UnsupportedError,
)
from ftt_hub.peft_plugin.config import TransferConfig, saving_refused
from ftt_hub.peft_plugin.method import PREFIX
from ftt_hub.peft_plugin.origin import folder_of
from ftt_hub.peft_plugin.slots import Delivery, SlotHolder
from ftt_hub.transfer.live import verbs

HOLDER = "transfer_slots"


class TransferTuner(BaseTuner):
    """What `PeftModel.base_model` is for a transfer adapter.

    Under a `PeftModel` it stays, and switches adapters by adding and removing them exactly. Under
    transformers' own `load_adapter` it leaves when Δ is in: the model is a plain one again.
    """

    prefix = PREFIX
    tuner_layer_cls = SlotHolder

    def __init__(
        self, model: torch.nn.Module, peft_config: Any, adapter_name: str, *args: Any, **kwargs: Any
    ) -> None:
        self.__dict__["_stays"] = not isinstance(peft_config, PeftConfig)
        self.__dict__["_arrived"] = dict[str, Adapter]()
        before = vars(model).get("_weight_conversions")
        self.__dict__["_conversions"] = {} if before is None else {"_weight_conversions": before}
        super().__init__(model, peft_config, adapter_name, *args, **kwargs)

    def inject_adapter(
        self, model: torch.nn.Module, adapter_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """Put slots into the model for an adapter's frames to be loaded into.

        Raises:
            UnsupportedError: Training was asked for, or the adapter is in several files.
            IntegrityError: The manifest is damaged.
        """
        del args, kwargs
        config = cast("TransferConfig", self.peft_config[adapter_name])
        if not config.inference_mode:
            raise UnsupportedError(
                "a transfer adapter has nothing to train (is_trainable=True)",
                where=config.base_model_name_or_path,
                hint="Merge it, fine-tune the result, and extract a new adapter.",
            )
        checked = config.checked()
        label = f"adapter of {checked.fine_tuned.id}"

        def complete(container: MemoryContainer) -> None:
            folder = folder_of(config.origin, checked) or Path(label)
            adapter = Adapter(label, folder, None, checked, container)
            self._complete(model, adapter_name, adapter)

        holder: SlotHolder | None = getattr(model, HOLDER, None)
        if holder is None:
            holder = SlotHolder(lambda: self._at_end(model, adapter_name))
            holder.hook = model.register_forward_pre_hook(holder.require_all)
            model.add_module(HOLDER, holder)
            holder.set_adapter(adapter_name)
        holder.expect(adapter_name, Delivery(checked.num_slots, label, complete))

    def _complete(self, model: Any, adapter_name: str, adapter: Adapter) -> None:
        self._refuse_twice(model, adapter_name, adapter)
        self._arrived[adapter_name] = adapter
        try:
            if adapter_name in self._active_names(model):
                verbs.apply_to(adapter, model)
        except IncompatibleError as error:
            self._abandon(model, adapter_name)
            raise IncompatibleError(
                error.what,
                where=error.where,
                hint="ftt_hub.AutoTransferModel… and TransferAdapter.apply_to can align"
                " vocabularies, and take force=True.",
            ) from error
        except FttError:
            self._abandon(model, adapter_name)
            raise
        if not self._stays:
            verbs.settle(model)

    def _refuse_twice(self, model: Any, adapter_name: str, adapter: Adapter) -> None:
        digest = adapter.config.content_digest
        for name, other in self._arrived.items():
            if other.config.content_digest == digest:
                self._abandon(model, adapter_name)
                raise AlreadyAppliedError(
                    "the adapter is loaded already",
                    where=adapter.label,
                    found=f"it is {name!r}",
                    hint=f"Use set_adapter({name!r}).",
                )

    def _at_end(self, model: Any, adapter_name: str) -> None:
        """A loader is done: refuse what is incomplete, and leave a model that is plain again."""
        holder: SlotHolder = getattr(model, HOLDER)
        try:
            holder.require_all()
        except IntegrityError:
            self._abandon(model, adapter_name)
            raise
        if not self._stays:
            self._leave(model, adapter_name)

    def _active_names(self, model: Any) -> list[str]:
        return list(getattr(model, HOLDER).active_adapters)

    def _abandon(self, model: Any, adapter_name: str) -> None:
        """Leave the model as it was before this adapter."""
        self._arrived.pop(adapter_name, None)
        self._leave(model, adapter_name)

    def _leave(self, model: Any, adapter_name: str) -> None:
        holder = getattr(model, HOLDER, None)
        if holder is not None:
            holder.deliveries.pop(adapter_name, None)
            if adapter_name in holder:
                del holder[adapter_name]
            if not holder.deliveries:
                holder.hook.remove()
                # A loader may be walking through the modules: it keeps its dictionary.
                modules = vars(model)["_modules"]
                kept = {name: m for name, m in modules.items() if m is not holder}
                model.__dict__["_modules"] = kept
        configs = getattr(model, "peft_config", None)
        if isinstance(configs, dict):
            configs.pop(adapter_name, None)
            if not configs:
                del model.peft_config
                model._hf_peft_config_loaded = False  # noqa: SLF001 - as its delete_adapter does
        if not self._stays:  # transformers took the renaming of the slots for that of the model
            model.__dict__.pop("_weight_conversions", None)
            model.__dict__.update(self._conversions)

    def _show(self, names: Sequence[str]) -> None:
        """Have exactly these adapters in the weights."""
        on = [a for a in self._arrived.values() if verbs.is_on(a, self.model)]
        for adapter in reversed(on):
            if adapter not in [self._arrived[name] for name in names if name in self._arrived]:
                verbs.remove_from(adapter, self.model)
        for name in names:
            if name in self._arrived and not verbs.is_on(self._arrived[name], self.model):
                verbs.apply_to(self._arrived[name], self.model)

    def set_adapter(self, adapter_name: Any, inference_mode: bool = False) -> None:
        """Switch to other loaded adapters, exactly."""
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        holder: SlotHolder = getattr(self.model, HOLDER)
        holder.require_all()
        self._show(names)
        holder.set_adapter(names, inference_mode)
        self.active_adapter = adapter_name

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        """Take Δ off the weights for as long as adapters are disabled."""
        self._show(self.active_adapters if enabled else [])
        super()._enable_adapter_layers(enabled)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter off the weights, and forget it.

        Raises:
            FttError: There is none of that name.
        """
        if adapter_name not in self.peft_config:
            raise FttError("no adapter of that name", where=adapter_name)
        left = [name for name in self.active_adapters if name != adapter_name]
        self._show(left)
        self._abandon_loaded(adapter_name)
        self.active_adapter = left

    def _abandon_loaded(self, adapter_name: str) -> None:
        holder: SlotHolder = getattr(self.model, HOLDER)
        self._arrived.pop(adapter_name, None)
        holder.deliveries.pop(adapter_name, None)
        del holder[adapter_name]
        holder.set_adapter([n for n in holder.active_adapters if n != adapter_name])
        self.peft_config.pop(adapter_name, None)

    def _unload_and_optionally_merge(  # type: ignore[override] # PEFT's says None, and returns it
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> torch.nn.Module:
        """The plain model, with Δ (`merge_and_unload`) or without (`unload`)."""
        del progressbar, safe_merge
        getattr(self.model, HOLDER).require_all()
        self._show((adapter_names or self.active_adapters) if merge else [])
        if merge:
            verbs.settle(self.model)
        for name in list(self.peft_config):
            self._leave(self.model, name)
        model: torch.nn.Module = self.model
        return model

    def merge_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: Δ is in the weights already."""

    def unmerge_adapter(self) -> None:
        """Refuse: there is no form of the model that has Δ beside its weights.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            "a transfer adapter is always merged",
            hint="Use disable_adapter() to have the target's own weights for a while.",
        )

    @classmethod
    def _get_adapter_state_dict(cls, model: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        raise saving_refused(config.base_model_name_or_path)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: Any, config: Any, adapter_name: str, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        """Insert the adapter's name: `transfer_slots.3.…` → `transfer_slots.NAME.3.…`."""
        del model, config
        return {
            k.replace(f"{HOLDER}.", f"{HOLDER}.{adapter_name}."): v for k, v in state_dict.items()
        }

    def _create_and_replace(self, *args: Any, **kwargs: Any) -> None:
        """Nothing in the model is replaced."""

    def _mark_only_adapters_as_trainable(self, model: torch.nn.Module) -> None:
        """Nothing here is trained."""

    def _cast_adapter_dtype(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to cast: slots have no dtype."""

    def _prepare_adapter_config(self, peft_config: Any, model_config: Any) -> Any:
        del model_config
        return peft_config
