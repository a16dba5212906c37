"""Transfer adapters through PEFT's and transformers' own loaders, once ftt-hub is imported.

PEFT loads a container as it loads any adapter: slot by slot, into modules that the tuner put into
the model. Ours only collect. When the last slot has arrived, the whole adapter goes through the
same checks, sums and way back as `TransferAdapter.apply_to`.
"""

from __future__ import annotations

from ftt_hub.peft_plugin.method import PREFIX, TRANSFER


def register() -> None:
    """Make the method known to PEFT; harmless when done twice."""
    from peft import mapping

    from ftt_hub.peft_plugin.config import TransferConfig
    from ftt_hub.peft_plugin.offloaded import refuse_offloaded
    from ftt_hub.peft_plugin.origin import remember_origins
    from ftt_hub.peft_plugin.tuner import TransferTuner

    remember_origins(TRANSFER)
    refuse_offloaded(TRANSFER)
    key: object = TRANSFER
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[key] = TransferConfig  # type: ignore[index]
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[key] = TransferTuner  # type: ignore[index]
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[key] = PREFIX  # type: ignore[index]
