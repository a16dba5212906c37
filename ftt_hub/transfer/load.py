"""`AutoTransferModelFor…`: m_t + λΔ straight into memory, through transformers' own loader."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ftt_hub.artifact.adapter import APPLIED_MARK, Adapter
from ftt_hub.artifact.card_scales import remind
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.spelling import Stored, loadable
from ftt_hub.errors import DeviceMemoryError, UnsupportedError
from ftt_hub.registry.open import open_adapter
from ftt_hub.transfer.assemble import Assembler, ReadBits, check_scale
from ftt_hub.transfer.prepare import Prepared, prepared
from ftt_hub.transfer.result_config import TIE

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from ftt_hub.transfer.lazy_tensors import Failures


ID2LABEL = "id2label"


def _model_class(auto_name: str, config: PreTrainedConfig, folder: Path, trust: bool) -> Any:
    """The model class that transformers' Auto class of that name stands for.

    Raises:
        UnsupportedError: It has none for this config, or needs code from the repository that the
            caller does not trust.
    """
    import transformers

    auto = getattr(transformers, auto_name)
    remote = getattr(config, "auto_map", None) or {}
    if type(config) in auto._model_mapping:  # noqa: SLF001 - Auto classes reject None as a path
        found = auto._model_mapping[type(config)]  # noqa: SLF001
        return found[0] if isinstance(found, list | tuple) else found
    if auto_name in remote and trust:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        return get_class_from_dynamic_module(remote[auto_name], str(folder))
    if auto_name in remote:
        raise UnsupportedError(
            "the model needs code from its repository",
            where=folder,
            hint="Read that code, then pass trust_remote_code=True.",
        )
    raise UnsupportedError(
        f"{auto_name} knows no {type(config).__name__}",
        where=folder,
        hint="Use the class that fits the model's task.",
    )


def _load_config(folder: Path, kwargs: dict[str, Any]) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The target's config with the caller's overrides, and the arguments left for the model."""
    from transformers import AutoConfig

    held = {key: kwargs.pop(key) for key in ("dtype", "quantization_config") if key in kwargs}
    trust = bool(kwargs.get("trust_remote_code"))
    kwargs["trust_remote_code"] = trust
    config, rest = AutoConfig.from_pretrained(str(folder), return_unused_kwargs=True, **kwargs)
    rest["trust_remote_code"] = trust
    return config, {**rest, **held}


def _adjust(config: PreTrainedConfig, target: Prepared) -> PreTrainedConfig:
    """The config of the result: structure as fine-tuned, size of its vocabulary."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    for key, value in target.plan.config.items():
        if key == "architectures":  # the caller chooses the class
            continue
        setattr(config, key, {int(k): v for k, v in value.items()} if key == ID2LABEL else value)
    if target.plan.config.get(TIE) is False:
        text.tie_word_embeddings = False
    if target.plan.rows is not None and target.plan.vocabulary_size is not None:
        text.vocab_size = target.plan.vocabulary_size
    return config


@contextlib.contextmanager
def _first_error(failures: Failures) -> Iterator[None]:
    """Let our own error through where transformers reports a conversion problem instead.

    Raises:
        DeviceMemoryError: The device has no memory left.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            "the device has no memory left for the model; nothing was kept of it",
            hint="Load a part elsewhere with device_map=…, or less with dtype= or"
            " quantization_config=….",
        ) from error
    finally:
        failures.raise_first()


def _generation_config(adapter: Adapter, target: ModelHeaders) -> dict[str, Any] | None:
    """The fine-tuned model's generation config, else the target's."""
    return adapter.config.generation_config or target.generation_config()


def load_model(
    auto_name: str,
    adapter: Adapter,
    target: Prepared,
    *,
    scale: float,
    read: ReadBits | None = None,
    **kwargs: Any,
) -> PreTrainedModel:
    """m_t + scale·Δ as a transformers model, made while transformers loads it.

    Peak memory is about that of loading the target alone plus one tensor. `read` replaces the
    target's weights by others of the same names and shapes, such as a mixture of two versions.
    """
    from transformers import GenerationConfig

    from ftt_hub.tensors import torch_delta
    from ftt_hub.transfer.lazy_tensors import DeltaSlice, Failures

    check_scale(scale)
    folder = target.checkpoint.folder
    config, rest = _load_config(folder, kwargs)
    model_class = _model_class(auto_name, config, folder, rest["trust_remote_code"])
    failures = Failures()
    source = read or target.checkpoint.read_bits
    assembler = Assembler(source, adapter.container, scale, add=torch_delta.add)
    plans = target.plan.tensors
    shapes = {name: plan.shape for name, plan in plans.items()}
    names = loadable(Stored(target.headers.label, target.headers.config, shapes))
    state = {names[name]: DeltaSlice(plan, assembler, failures) for name, plan in plans.items()}
    rest.setdefault("dtype", "auto")
    with _first_error(failures):
        loaded = model_class.from_pretrained(
            None, config=_adjust(config, target), state_dict=state, **rest
        )
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.name_or_path = model.config.name_or_path = target.headers.label
    setattr(model, APPLIED_MARK, (adapter.config.content_digest,))
    generation = _generation_config(adapter, target.headers)
    if generation is not None and model.can_generate():
        model.generation_config = GenerationConfig.from_dict(generation)
    return loaded  # type: ignore[no-any-return]


class _AutoTransferModel:
    """Shared by the classes below; like transformers' Auto classes they are never instantiated."""

    auto_name: ClassVar[str]

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path,
        *,
        base_model: str | Path | None = None,
        scale: float = 1.0,
        revision: str | None = None,
        registry: str | Path | None = None,
        force: bool = False,
        source_base: str | Path | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel:
        """Load a target with a transfer adapter added: m_t + scale·Δ (Lin et al. 2025, eq. 1).

        Args:
            adapter: Folder, or ``namespace/name[@revision]``.
            base_model: Target m_t, a folder or Hub reference; default the source base, which
                gives the fine-tuned model back.
            scale: Task-arithmetic coefficient λ.
            revision: Of the adapter.
            registry: ``"hf"`` or a folder; default `FTT_HUB_REGISTRY`, else the Hub.
            force: Go on in spite of a rejection.
            source_base: m_s, a folder or Hub reference, which only ``anchored`` adapters read;
                default the target itself. It is checked by hash, and never fetched unasked.
            **kwargs: As for transformers' `from_pretrained`: dtype, device_map,
                quantization_config, attn_implementation …

        Raises:
            IncompatibleError: The adapter does not fit the target.
            IntegrityError: The adapter is damaged.
            DeviceMemoryError: The device has no memory left.
        """
        check_scale(scale)
        with open_adapter(adapter, revision=revision, registry=registry) as opened:
            remind(opened.folder, opened.label, scale)
            chosen = base_model or opened.config.source_base.ref
            with prepared(opened, chosen, force=force, source_base=source_base) as target:
                return load_model(cls.auto_name, opened, target, scale=scale, **kwargs)


class AutoTransferModel(_AutoTransferModel):
    """Models without a head, with a transfer adapter, as `AutoModel`."""

    auto_name = "AutoModel"


class AutoTransferModelForCausalLM(_AutoTransferModel):
    """Causal language models with a transfer adapter, as `AutoModelForCausalLM`."""

    auto_name = "AutoModelForCausalLM"


class AutoTransferModelForSeq2SeqLM(_AutoTransferModel):
    """Encoder-decoder models with a transfer adapter, as `AutoModelForSeq2SeqLM`."""

    auto_name = "AutoModelForSeq2SeqLM"


class AutoTransferModelForSequenceClassification(_AutoTransferModel):
    """Classifiers with a transfer adapter, as `AutoModelForSequenceClassification`."""

    auto_name = "AutoModelForSequenceClassification"


class AutoTransferModelForImageTextToText(_AutoTransferModel):
    """Vision-language models with a transfer adapter, as `AutoModelForImageTextToText`."""

    auto_name = "AutoModelForImageTextToText"
