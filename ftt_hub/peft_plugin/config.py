"""The manifest as PEFT's config object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import PeftConfig, TaskType

from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig, parse_config
from ftt_hub.artifact.reader import CONTAINER_INDEX
from ftt_hub.errors import UnsupportedError
from ftt_hub.peft_plugin.method import TRANSFER
from ftt_hub.peft_plugin.origin import ORIGIN


class TransferConfig(PeftConfig):
    """`adapter_config.json` of a transfer adapter, unchanged.

    Args:
        **manifest: Its keys.

    Attributes:
        manifest: The keys of the manifest.
        origin: The file they were read from, if PEFT read one.
    """

    def __init__(self, **manifest: Any) -> None:
        self.origin: str | None = manifest.pop(ORIGIN, None)
        task = manifest.get("task_type")
        super().__init__(
            peft_type=TRANSFER,
            task_type=task if task in list(TaskType) else None,
            base_model_name_or_path=manifest.get("base_model_name_or_path"),
            revision=manifest.get("revision"),
            inference_mode=True,
        )
        self.manifest = manifest

    def to_dict(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self.manifest)

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Refuse: a config alone is no adapter.

        Raises:
            UnsupportedError: Always.
        """
        del kwargs
        raise saving_refused(save_directory)

    def checked(self) -> AdapterConfig:
        """The manifest, validated.

        Raises:
            IntegrityError: It is damaged.
            UnsupportedError: It is for a newer format, or sharded, which PEFT cannot read.
        """
        config = parse_config(json.dumps(self.manifest).encode(), CONFIG_NAME)
        if CONTAINER_INDEX in config.files:
            raise UnsupportedError(
                "PEFT and transformers cannot read an adapter in several files",
                where=config.fine_tuned.id,
                hint="Load it with ftt_hub.AutoTransferModel… or TransferAdapter.apply_to.",
            )
        return config


def saving_refused(where: object) -> UnsupportedError:
    """What saving a transfer adapter through PEFT raises."""
    return UnsupportedError(
        "PEFT cannot save a transfer adapter: the model no longer has Δ apart from its weights",
        where=Path(str(where)).name,
        hint="Save merge_and_unload(), or copy the adapter with ftt-hub pull.",
    )
