"""Encoder-decoders store one embedding under up to four names, and any of them may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import drifted
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

import ftt_hub

ENCODER, DECODER = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
ALL = ("shared.weight", ENCODER, DECODER, "lm_head.weight")


def save(model: T5ForConditionalGeneration, folder: Path, names: tuple[str, ...]) -> Path:
    """The model with its embedding stored under these names."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    state = load_file(path)
    embedding = state.pop("shared.weight")
    others = {name: tensor for name, tensor in state.items() if name not in ALL}
    save_file({**others, **{n: embedding.clone() for n in names}}, path, {"format": "pt"})
    return folder


def changed(model: T5ForConditionalGeneration, seed: int) -> T5ForConditionalGeneration:
    other = T5ForConditionalGeneration(model.config).to(torch.bfloat16)
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    other.load_state_dict(drifted(state, seed, 0.1))
    other.tie_weights()
    return other


@pytest.mark.parametrize(
    ("source", "tuned", "target"),
    [
        ((ENCODER, DECODER), ("shared.weight",), ("shared.weight", ENCODER, "lm_head.weight")),
        (("shared.weight",), (DECODER,), ("lm_head.weight",)),
        ((ENCODER,), ("shared.weight",), ("shared.weight",)),
        (ALL, ("shared.weight",), (ENCODER, "lm_head.weight")),
    ],
)
def test_the_embedding_gets_its_delta_whatever_names_store_it(
    tmp_path: Path, source: tuple[str, ...], tuned: tuple[str, ...], target: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    base = T5ForConditionalGeneration(T5Config(vocab_size=64, **sizes)).to(torch.bfloat16)
    fine, newer = changed(base, 1), changed(base, 2)
    folders = [
        save(model, tmp_path / name, names)
        for model, name, names in ((base, "s", source), (fine, "f", tuned), (newer, "t", target))
    ]
    ftt_hub.extract(folders[0], folders[1], tmp_path / "a")
    ftt_hub.apply(tmp_path / "a", folders[2], tmp_path / "m")
    loaded = [
        T5ForConditionalGeneration.from_pretrained(folder, dtype="auto").state_dict()
        for folder in (*folders, tmp_path / "m")
    ]
    for name, result in loaded[3].items():
        s, f, t = (state[name].double() for state in loaded[:3])
        torch.testing.assert_close(result, (t + (f - s)).to(result.dtype), rtol=0, atol=0)
