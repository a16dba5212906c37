"""Why a folder or repository holds no weights that transformers would load, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from ftt_hub.errors import CheckpointError
from ftt_hub.support.model_files import is_weights

EXPECTED = "model.safetensors, its index, or pytorch_model.bin"
_OTHER_FORMATS = (
    (
        (".gguf", ".ggml"),
        "GGUF files, which are quantized for llama.cpp",
        "Name the repository that the GGUF files were made from.",
    ),
    ((".onnx", ".onnx_data"), "ONNX files", "Name the repository that they were exported from."),
    (
        (".h5", ".msgpack", ".ot", ".tflite"),
        "weights for TensorFlow, Flax or Rust",
        "Load it with transformers 4 (from_tf=True or from_flax=True), and save it as safetensors.",
    ),
    (
        (".pth", ".pt", ".ckpt"),
        "weights in their author's own format",
        "Name the converted model, or convert it with transformers' script for it.",
    ),
)


Read = Callable[[str], bytes | None]
"""Reads a small file of the model by its path."""


def _adapter(read: Read) -> tuple[str, str]:
    """Which kind of adapter it is, and the next step."""
    try:
        value = json.loads(read("adapter_config.json") or b"{}")
    except (ValueError, RecursionError):
        value = {}
    kind = value.get("peft_type") if isinstance(value, dict) else None
    if kind == "TRANSFER":
        return "a transfer adapter", "Name a model here; ftt-hub apply adds the adapter to it."
    return (
        f"a PEFT adapter ({kind!s:.40})",
        "ftt-hub convert from-peft makes a transfer adapter of it; or merge it with PEFT and save.",
    )


def _reason(names: Collection[str], read: Read) -> tuple[str, str]:
    """What the folder holds instead, and the next step."""
    if "adapter_config.json" in names:
        return _adapter(read)
    if "model_index.json" in names:
        return "a diffusers pipeline", "Name the folder of one of its models, such as …/unet."
    if any(n.startswith("consolidated.") for n in names):
        return _OTHER_FORMATS[-1][1:]
    for suffixes, what, hint in _OTHER_FORMATS:
        if any(name.lower().endswith(suffixes) for name in names):
            return what, hint
    others = sorted(name for name in names if "/" not in name and is_weights(name))
    if others:
        return ", ".join(others[:3]), "Rename it, or load it and save the model anew."
    return "no weights", "Is this a saved model?"


def no_weights(names: Collection[str], read: Read, where: object) -> CheckpointError:
    """The error for a folder without weights.

    Args:
        names: Paths of what it holds.
        read: Reads one of its small files.
        where: The folder or repository.
    """
    found, hint = _reason(names, read)
    return CheckpointError(
        "no weights that transformers loads", where=where, expected=EXPECTED, found=found, hint=hint
    )
