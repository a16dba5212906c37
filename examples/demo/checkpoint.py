"""Checkpoints as ordinary Hugging Face folders: weights, configuration, tokenizer."""

from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from demo.terminal import progress

_QUANTISATION_TRACES = ("quantization_config", "_pre_quantization_dtype", "_model_name_or_path")


def load_model(folder: Path, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a causal language model from a local folder, in its own dtype unless told otherwise."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype or "auto", local_files_only=True
    )
    return cast("PreTrainedModel", model)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a local checkpoint folder."""
    return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(folder))


def tokenize(folder: Path, text: str) -> torch.Tensor:
    """Return the token ids of `text`, 1-D int64, by the tokenizer of a checkpoint folder."""
    ids = load_tokenizer(folder)(text, add_special_tokens=False)["input_ids"]
    return torch.tensor(ids)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model, rounded once to bfloat16, and its tokenizer into `folder`."""
    model.bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the dequantized weights and the tokenizer of a GGUF file as a bfloat16 checkpoint.

    The weights go into a model built from the configuration alone, so that no trace of the
    quantization stays in what is saved.
    """
    with progress() as bar:
        task = bar.add_task("unpacking the 4-bit weights", total=3, note="")
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        bar.advance(task)
        source = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, **_dequantized()
        )
        bar.advance(task)
        save(_plain_copy(source), tokenizer, folder)
        bar.advance(task)


def _dequantized() -> dict[str, Any]:
    """Return the argument that asks for dense weights, where transformers can keep them packed."""
    config = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if config else {}


def _plain_copy(source: PreTrainedModel) -> PreTrainedModel:
    """Return a model with the same weights that knows nothing of the file it came from."""
    config = source.config
    for trace in _QUANTISATION_TRACES:
        if hasattr(config, trace):
            delattr(config, trace)
    model = type(source)(config)
    model.load_state_dict(source.state_dict())
    model.generation_config = source.generation_config
    return model
