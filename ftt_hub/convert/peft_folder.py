"""A PEFT adapter's folder: read with bounds, without pickle, and before PEFT sees any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftt_hub.checkpoint.reader import read_json_file
from ftt_hub.errors import CheckpointError, RefError, UnsupportedError
from ftt_hub.support.model_files import chosen_weights
from ftt_hub.support.warn import warn_caller
from ftt_hub.tensors.file import SafetensorsFile
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import all_finite

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_CONFIG_BYTES = 4 << 20
_CHUNK = 4 << 20

CANNOT_MERGE: Mapping[str, str] = {
    "ADAPTION_PROMPT": "it adds learned attention prompts, which are no weights of the base",
    "CARTRIDGE": "it is a learned key-value cache, which is no weight of the base",
    "CPT": "it learns prompt embeddings, which are no weights of the base",
    "LILY": "its mixture of factors depends on every input, and PEFT defines no merging for it",
    "MULTITASK_PROMPT_TUNING": "it learns prompt embeddings, which are no weights of the base",
    "P_TUNING": "it learns prompt embeddings, which are no weights of the base",
    "PREFIX_TUNING": "it learns a key-value prefix, which is no weight of the base",
    "PROMPT_TUNING": "it learns prompt embeddings, which are no weights of the base",
    "POLY": "its change depends on the task id of each input",
    "XLORA": "it mixes its adapters anew for every token",
    "SHADOW": "it runs a second, small model beside the base",
}
"""PEFT's methods whose change is no change of weights, and why; PEFT cannot merge them either."""

_ELSEWHERE = {
    "megatron_config": "it needs Megatron",
    "layer_replication": "it repeats layers, so that the result has another architecture",
    "arrow_config": "it routes between adapters for every token",
    "shadow_model": "it needs a second model",
    "alora_invocation_tokens": "it is active only after certain tokens",
}
"""Settings that no change of weights can express, or that name code or files of the author's."""


@dataclass(frozen=True)
class PeftFolder:
    """What a PEFT adapter says of itself.

    Attributes:
        folder: Where it lies.
        config: Its `adapter_config.json`.
        tensors: Names, dtypes and shapes of its weights.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @property
    def peft_type(self) -> str:
        """PEFT's name of the method."""
        return str(self.config["peft_type"])

    @property
    def base(self) -> str | None:
        """The base model that the adapter names."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def base_revision(self) -> str | None:
        """The revision of that base, if it names one."""
        revision = self.config.get("revision")
        return revision if isinstance(revision, str) and revision else None

    def small_file(self, name: str) -> bytes | None:
        """A tokenizer or behaviour file beside the weights."""
        path = self.folder / name
        if not path.is_file() or path.stat().st_size > 64 << 20:
            return None
        return path.read_bytes()


def is_peft_folder(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter rather than a model or a transfer adapter.

    Where it holds a whole model beside the adapter, transformers loads the adapter onto the base
    that the adapter names, and so the adapter counts here, with a warning.
    """
    path = folder / CONFIG
    if not path.is_file():
        return False
    try:
        kind = read_json_file(path).get("peft_type")
    except CheckpointError:
        return False
    if not isinstance(kind, str) or kind == "TRANSFER":
        return False
    names = {item.name for item in folder.iterdir()}
    if chosen_weights(names) is None:
        return True
    if not {WEIGHTS, PICKLED} & names:
        return False
    warn_caller(
        f"{folder} holds a PEFT adapter and a whole model: the adapter counts, as in transformers"
    )
    return True


def _read_config(folder: Path) -> dict[str, object]:
    path = folder / CONFIG
    if not path.is_file():
        raise RefError(
            f"no {CONFIG} there",
            where=folder,
            expected="the folder of a PEFT adapter",
            hint="Name the folder that save_pretrained wrote.",
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError("too large", where=path, expected=f"≤ {MAX_CONFIG_BYTES} bytes")
    return read_json_file(path)


def _check_config(config: Mapping[str, object], folder: Path) -> None:
    kind = config.get("peft_type")
    if not isinstance(kind, str):
        raise CheckpointError("names no peft_type", where=folder / CONFIG)
    if kind == "TRANSFER":
        raise UnsupportedError(
            "is a transfer adapter already", where=folder, hint="Use it as it is."
        )
    if kind in CANNOT_MERGE:
        raise UnsupportedError(
            f"{kind} cannot become a diff vector: {CANNOT_MERGE[kind]}",
            where=folder,
            expected="a method whose change can be merged into the weights, such as LoRA",
        )
    for key, reason in _ELSEWHERE.items():
        if config.get(key):
            raise UnsupportedError(f"uses {key}: {reason}", where=folder / CONFIG)
    corda = config.get("corda_config")
    if isinstance(corda, dict) and (corda.get("cache_file") or corda.get("covariance_file")):
        raise UnsupportedError(
            "corda_config names files outside the adapter", where=folder / CONFIG
        )


def _check_finite(file: SafetensorsFile) -> None:
    for info in file.tensors.values():
        if not info.dtype.is_float:
            continue
        for start in range(0, info.count, _CHUNK):
            bits = file.read_bits(info, start, min(_CHUNK, info.count - start))
            if not all_finite(bits, info.dtype):
                raise CheckpointError(
                    f"tensor {info.name!r:.200} holds NaN or infinity",
                    where=file.path,
                    hint="The training diverged, or the file is damaged.",
                )


def read_peft_folder(folder: Path) -> PeftFolder:
    """Config and headers of a PEFT adapter; its weights are checked for NaN.

    Raises:
        RefError: It is no PEFT adapter.
        CheckpointError: Malformed, or NaN in it.
        UnsupportedError: Its weights are pickled, or its method cannot be merged.
    """
    config = _read_config(folder)
    _check_config(config, folder)
    path = folder / WEIGHTS
    if not path.is_file() and (folder / PICKLED).is_file():
        raise UnsupportedError(
            "the weights are a pickle, which can run code when it is read",
            where=folder / PICKLED,
            expected=WEIGHTS,
            hint="Ask the author for safetensors, or save it anew with PEFT where you trust it.",
        )
    if not path.is_file():
        raise CheckpointError("no weights found", where=folder, expected=WEIGHTS)
    with SafetensorsFile(path) as file:
        _check_finite(file)
        tensors = dict(file.tensors)
    if not tensors:
        raise CheckpointError("holds no tensors", where=path)
    return PeftFolder(folder, config, tensors)
