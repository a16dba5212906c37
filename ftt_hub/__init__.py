"""ftt-hub: diff vectors as versioned transfer adapters.

Importing this package is light: torch, transformers, peft and click load when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import wrapt

from ftt_hub.version import __version__

if TYPE_CHECKING:
    from ftt_hub.api import TransferAdapter, apply, extract, verify
    from ftt_hub.browsing import browse
    from ftt_hub.combining.recipe import Ingredient
    from ftt_hub.combining.verb import combine
    from ftt_hub.converting import (
        convert_from_peft,
        convert_to_lora,
        convert_to_sparse_patch,
        export_channels,
    )
    from ftt_hub.errors import FttError
    from ftt_hub.evaluation.comparison import evaluate
    from ftt_hub.exchange import publish, pull
    from ftt_hub.extraction.choice import Coding
    from ftt_hub.ledger import deprecate, record_evaluations, versions
    from ftt_hub.loading import (
        AutoTransferModel,
        AutoTransferModelForCausalLM,
        AutoTransferModelForImageTextToText,
        AutoTransferModelForSeq2SeqLM,
        AutoTransferModelForSequenceClassification,
    )
    from ftt_hub.ranking import rank
    from ftt_hub.recording import record_verdict
    from ftt_hub.recycling.verb import recycle
    from ftt_hub.registry.evaluations import EvaluationResult
    from ftt_hub.routing.router import AdapterRouter
    from ftt_hub.tuning.verb import tune
    from ftt_hub.verdict.options import TextOptions

_HOMES = {
    "AdapterRouter": "ftt_hub.routing.router",
    "AutoTransferModel": "ftt_hub.loading",
    "AutoTransferModelForCausalLM": "ftt_hub.loading",
    "AutoTransferModelForImageTextToText": "ftt_hub.loading",
    "AutoTransferModelForSeq2SeqLM": "ftt_hub.loading",
    "AutoTransferModelForSequenceClassification": "ftt_hub.loading",
    "Coding": "ftt_hub.extraction.choice",
    "EvaluationResult": "ftt_hub.registry.evaluations",
    "FttError": "ftt_hub.errors",
    "TextOptions": "ftt_hub.verdict.options",
    "Ingredient": "ftt_hub.combining.recipe",
    "TransferAdapter": "ftt_hub.api",
    "apply": "ftt_hub.api",
    "browse": "ftt_hub.browsing",
    "combine": "ftt_hub.combining.verb",
    "convert_from_peft": "ftt_hub.converting",
    "convert_to_lora": "ftt_hub.converting",
    "convert_to_sparse_patch": "ftt_hub.converting",
    "deprecate": "ftt_hub.ledger",
    "evaluate": "ftt_hub.evaluation.comparison",
    "export_channels": "ftt_hub.converting",
    "extract": "ftt_hub.api",
    "publish": "ftt_hub.exchange",
    "pull": "ftt_hub.exchange",
    "record_evaluations": "ftt_hub.ledger",
    "rank": "ftt_hub.ranking",
    "record_verdict": "ftt_hub.recording",
    "tune": "ftt_hub.tuning.verb",
    "recycle": "ftt_hub.recycling.verb",
    "verify": "ftt_hub.api",
    "versions": "ftt_hub.ledger",
}

__all__ = [
    "AdapterRouter",
    "AutoTransferModel",
    "AutoTransferModelForCausalLM",
    "AutoTransferModelForImageTextToText",
    "AutoTransferModelForSeq2SeqLM",
    "AutoTransferModelForSequenceClassification",
    "Coding",
    "EvaluationResult",
    "FttError",
    "Ingredient",
    "TextOptions",
    "TransferAdapter",
    "__version__",
    "apply",
    "browse",
    "combine",
    "convert_from_peft",
    "convert_to_lora",
    "convert_to_sparse_patch",
    "deprecate",
    "evaluate",
    "export_channels",
    "extract",
    "publish",
    "pull",
    "rank",
    "record_evaluations",
    "record_verdict",
    "recycle",
    "tune",
    "verify",
    "versions",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_with_peft(_peft: object) -> None:
    """Make the Hugging Face loaders know transfer adapters as soon as PEFT is there."""
    import_module("ftt_hub.peft_plugin").register()


wrapt.register_post_import_hook(_register_with_peft, "peft")
