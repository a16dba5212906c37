"""PEFT adapters as transfer adapters: the same weights as PEFT's own merging, bit for bit."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import TinyFamily, load_state, same_bits
from peft.utils.peft_types import PeftType
from peft_adapters import T, make_adapter, merged_by_peft
from safetensors.torch import load_file, save_file

import ftt_hub
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.convert.merged import MergedModel
from ftt_hub.convert.peft_folder import CANNOT_MERGE, read_peft_folder
from ftt_hub.errors import CheckpointError, FttError, IncompatibleError, RefError, UnsupportedError
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.trials.trial import LossTrial

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's notes on training; ours are asked for

WORKS: dict[str, dict[str, Any]] = {
    "ADALORA": {**T, "init_r": 4, "target_r": 2, "total_step": 10},
    "BOFT": {**T, "boft_block_size": 4},
    "C3A": {**T, "block_size": 16},
    "DEFT": T,
    "DELORA": T,
    "FOURIERFT": {**T, "n_frequency": 50},
    "FROD": T,
    "GLORA": T,
    "GRALORA": T,
    "HIRA": T,
    "HRA": T,
    "IA3": {**T, "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {},
    "LOHA": T,
    "LOKR": T,
    "LORA": T,
    "MISS": {**T, "r": 4},
    "OFT": {**T, "oft_block_size": 8, "r": 0},
    "OSF": T,
    "PEANUT": T,
    "PSOFT": {**T, "r": 4},
    "PVERA": T,
    "RANDLORA": {**T, "r": 4},
    "ROAD": {**T, "group_size": 16},
    "SHIRA": {**T, "r": 2},
    "SUPERTUNING": T,
    "TINYLORA": T,
    "TRAINABLE_TOKENS": {"token_indices": [3, 5], "target_modules": ["embed_tokens"]},
    "UNILORA": T,
    "VBLORA": {**T, "vector_length": 8, "num_vectors": 16, "r": 2},
    "VERA": T,
    "WAVEFT": {**T, "n_frequency": 50},
}
ELSEWHERE = {
    "ADAMSS": "needs scikit-learn, which PEFT asks for itself",
    "BEFT": "changes biases, which this model has none of",
}
"""Methods that merge, but not on this machine or this model."""


def assert_same_as_peft(base: Path, adapter: Path) -> int:
    """Every tensor agrees; how many changed."""
    expected = merged_by_peft(base, adapter)
    checkpoint, _ = open_model(base)
    changed = 0
    with checkpoint:
        model = MergedModel(checkpoint, read_peft_folder(adapter))
        for name, info in model.tensors.items():
            bits = model.read_bits(name, 0, info.count)
            theirs = expected[name].to(getattr(torch, info.dtype.torch_name or "")).contiguous()
            raw = theirs.view(-1).view(torch.uint8).numpy().view(info.dtype.numpy)
            np.testing.assert_array_equal(bits, raw, err_msg=name)
            if name in checkpoint.tensors:
                changed += bool((bits != checkpoint.read_bits(name, 0, info.count)).any())
    return changed


def test_every_method_of_peft_is_known_to_merge_or_not() -> None:
    """A method of a later PEFT fails here until someone has looked at it."""
    assert set(WORKS) | set(CANNOT_MERGE) | set(ELSEWHERE) == {kind.value for kind in PeftType}
    assert not set(WORKS) & set(CANNOT_MERGE)


@pytest.mark.parametrize("kind", sorted(WORKS))
def test_merging_gives_what_peft_gives_bit_for_bit(
    family: TinyFamily, tmp_path: Path, kind: str
) -> None:
    adapter = make_adapter(family.source, tmp_path / "peft", kind, **WORKS[kind])
    assert assert_same_as_peft(family.source, adapter) > 0


@pytest.mark.parametrize("kind", sorted(CANNOT_MERGE))
def test_a_method_without_merging_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    with pytest.raises(UnsupportedError, match="cannot become a diff vector"):
        read_peft_folder(tmp_path)


VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "r": 4},
    "patterns": {"r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "every linear layer": {"target_modules": "all-linear"},
    "norms saved": {"modules_to_save": ["norm"]},
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_variants_of_lora_merge_bit_for_bit(
    family: TinyFamily, tmp_path: Path, variant: str
) -> None:
    settings = {**T, **VARIANTS[variant]}
    adapter = make_adapter(family.source, tmp_path / "peft", "LORA", **settings)
    assert assert_same_as_peft(family.source, adapter) > 0


def test_an_adapter_that_unties_the_embeddings_is_refused(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = make_adapter(
        family.source, tmp_path / "peft", "LORA", **T, modules_to_save=["lm_head"]
    )
    with pytest.raises(FttError, match="unties"):
        ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=family.source)


def test_extract_takes_a_lora_folder_and_rebuilds_the_merged_model(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = make_adapter(family.source, tmp_path / "peft", "LORA", **T)
    made = ftt_hub.extract(family.source, adapter, tmp_path / "out")
    assert made.config.fidelity.exact
    assert made.config.tensors.changed == 6
    assert made.config.extra["x-peft"]["peft_type"] == "LORA"
    made.apply(family.source, tmp_path / "merged")
    expected, found = merged_by_peft(family.source, adapter), load_state(tmp_path / "merged")
    assert all(same_bits(found[name], expected[name]) for name in found)


@pytest.fixture
def lora(family: TinyFamily, tmp_path: Path) -> Path:
    return make_adapter(family.source, tmp_path / "peft", "LORA", **T)


def test_another_base_is_refused_unless_forced(
    family: TinyFamily, lora: Path, tmp_path: Path
) -> None:
    with pytest.raises(IncompatibleError, match="trained on another base"):
        ftt_hub.extract(family.target, lora, tmp_path / "out")
    made = ftt_hub.extract(family.target, lora, tmp_path / "out", force=True)
    assert made.config.source_base.id == "target"


def test_a_quantized_base_is_explained_and_recorded(
    family: TinyFamily, lora: Path, tmp_path: Path
) -> None:
    path = lora / "adapter_config.json"
    value = json.loads(path.read_text())
    value["base_model_name_or_path"] = "unsloth/source-bnb-4bit"
    path.write_text(json.dumps(value))
    with pytest.raises(RefError, match="quantized copy"):
        ftt_hub.convert_from_peft(lora, tmp_path / "out")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        made = ftt_hub.convert_from_peft(lora, tmp_path / "out", base=family.source)
    assert any("quantized copy" in str(item.message) for item in seen)
    assert made.config.extra["x-peft"]["trained_on_quantized"] == "unsloth/source-bnb-4bit"


def test_bad_adapters_are_refused_in_one_line(
    family: TinyFamily, lora: Path, tmp_path: Path
) -> None:
    def damaged(name: str) -> Path:
        return Path(shutil.copytree(lora, tmp_path / name))

    def convert(folder: Path) -> None:
        ftt_hub.convert_from_peft(folder, tmp_path / "out", base=family.source)

    def config(folder: Path, **changes: Any) -> Path:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return folder

    pickled = damaged("pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(UnsupportedError, match="pickle"):
        convert(pickled)
    nan = damaged("nan")
    tensors = load_file(nan / "adapter_model.safetensors")
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] * float("nan")}, nan / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        convert(nan)
    cut = damaged("cut")
    data = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        convert(cut)
    with pytest.raises(FttError, match="TELEPATHY"):
        convert(config(damaged("unknown"), peft_type="TELEPATHY"))
    with pytest.raises(UnsupportedError, match="Megatron"):
        convert(config(damaged("megatron"), megatron_config={"a": 1}))
    with pytest.raises(CheckpointError, match="cannot put the adapter"):
        convert(config(damaged("names"), target_modules=["no_such_layer"]))
    with pytest.raises(RefError, match="names no base"):
        ftt_hub.convert_from_peft(
            config(damaged("baseless"), base_model_name_or_path=None), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_lora_folder_can_be_tried_on_a_text(
    family: TinyFamily, lora: Path, tmp_path: Path
) -> None:
    text = tmp_path / "held_out.txt"
    text.write_text(" ".join(f"w{n * n % 91}" for n in range(700)))
    trial = LossTrial(text, family.target)
    coding = Coding("quantized", bits=1.0)
    adapter = ftt_hub.extract(family.source, lora, tmp_path / "out", codec=coding, trial=trial)
    assert {point.rounding for point in trial.points} == {"nearest", "stochastic", "rotated"}
    assert trial.chosen is not None
    assert adapter.config.fidelity.noise == trial.chosen.noise
