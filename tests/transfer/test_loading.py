"""AutoTransferModelForCausalLM: what is loaded equals what apply writes, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models import TinyFamily, config, drifted, load_state, random_state, save_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import ftt_hub
from ftt_hub import AutoTransferModelForCausalLM
from ftt_hub.errors import FttError, IncompatibleError, IntegrityError, RefError


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapter") / "a"
    ftt_hub.extract(family.source, family.tuned, out)
    return out


def assert_same_weights(model: torch.nn.Module, other: torch.nn.Module) -> None:
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


def merged(adapter: Path, target: Path, out: Path, **options: Any) -> LlamaForCausalLM:
    ftt_hub.apply(adapter, target, out, **options)
    return AutoModelForCausalLM.from_pretrained(out)


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.0])
def test_loading_equals_applying_and_loading(
    family: TinyFamily, adapter: Path, tmp_path: Path, scale: float
) -> None:
    model = AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target, scale=scale
    )
    assert_same_weights(model, merged(adapter, family.target, tmp_path / "m", scale=scale))


def test_the_source_base_gives_the_fine_tuned_model_back(family: TinyFamily, adapter: Path) -> None:
    model = AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=family.source)
    assert_same_weights(model, AutoModelForCausalLM.from_pretrained(family.tuned))


def test_without_a_target_the_recorded_source_base_is_used(
    family: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(family.root)
    ftt_hub.extract("source", "tuned", tmp_path / "a")
    model = AutoTransferModelForCausalLM.from_pretrained(tmp_path / "a")
    assert_same_weights(model, AutoModelForCausalLM.from_pretrained("tuned"))


def test_a_source_base_that_is_not_at_hand_is_named(adapter: Path) -> None:
    with pytest.raises(RefError, match="source: no such folder"):
        AutoTransferModelForCausalLM.from_pretrained(adapter)


@pytest.mark.parametrize("dtype", [torch.float32, "float16"])
def test_arguments_reach_transformers(family: TinyFamily, adapter: Path, dtype: Any) -> None:
    model, info = AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target, dtype=dtype, attn_implementation="eager",
        output_loading_info=True,
    )  # fmt: skip
    assert {p.dtype for p in model.parameters()} == {getattr(torch, str(dtype).split(".")[-1])}
    assert model.config._attn_implementation == "eager"
    assert not any(info.values())


@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_separate_heads(tmp_path: Path, tied: bool) -> None:
    settings = config(tie_word_embeddings=tied)
    base = random_state(0, tied=tied)
    source = save_model(tmp_path / "s", base, settings)
    tuned = save_model(tmp_path / "f", drifted(base, 1, 0.01), settings)
    target = save_model(tmp_path / "t", drifted(base, 2, 0.05), settings, shards=3)
    ftt_hub.extract(source, tuned, tmp_path / "a")
    model = AutoTransferModelForCausalLM.from_pretrained(tmp_path / "a", base_model=target)
    assert_same_weights(model, merged(tmp_path / "a", target, tmp_path / "m"))
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_device_map_and_disk_offload(family: TinyFamily, adapter: Path, tmp_path: Path) -> None:
    names = ("model.embed_tokens", "lm_head", "model.layers.0", "model.norm", "model.rotary_emb")
    placement = {**dict.fromkeys(names, "cpu"), "model.layers.1": "disk"}
    model = AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target, device_map=placement, offload_folder=tmp_path / "off"
    )
    tokens = torch.arange(8)[None]
    expected = merged(adapter, family.target, tmp_path / "m")(tokens).logits
    torch.testing.assert_close(model(tokens).logits, expected)


def test_the_result_saves_as_a_plain_model(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    model = AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=family.target)
    model.save_pretrained(tmp_path / "saved")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert_same_weights(model, plain)
    assert model.name_or_path == str(family.target)


def test_it_generates_with_the_fine_tuned_models_settings(
    family: TinyFamily, tmp_path: Path
) -> None:
    tuned = save_model(tmp_path / "f", drifted(random_state(0), 1, 0.01))
    (tuned / "generation_config.json").write_text('{"eos_token_id": 5, "max_new_tokens": 7}')
    ftt_hub.extract(family.source, tuned, tmp_path / "a")
    model = AutoTransferModelForCausalLM.from_pretrained(tmp_path / "a", base_model=family.target)
    assert model.generation_config.eos_token_id == 5
    assert model.generate(torch.tensor([[4]]), do_sample=False).shape[1] <= 8


def test_a_stranger_is_refused_before_a_weight_is_loaded(family: TinyFamily, adapter: Path) -> None:
    with pytest.raises(IncompatibleError, match="unrelated"):
        AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=family.stranger)


def test_a_damaged_frame_found_while_loading_reaches_the_caller_as_our_error(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    import shutil

    damaged = shutil.copytree(adapter, tmp_path / "damaged")
    container = damaged / "adapter_model.safetensors"
    data = bytearray(container.read_bytes())
    data[-20] ^= 0xFF
    container.write_bytes(data)
    with pytest.raises(IntegrityError, match="does not match its hash"):
        AutoTransferModelForCausalLM.from_pretrained(damaged, base_model=family.target)


def test_a_scale_that_is_no_number_is_refused(family: TinyFamily, adapter: Path) -> None:
    with pytest.raises(FttError, match="finite number"):
        AutoTransferModelForCausalLM.from_pretrained(
            adapter, base_model=family.target, scale=float("nan")
        )


def test_slices_answer_as_those_of_safetensors(family: TinyFamily, adapter: Path) -> None:
    from safetensors import safe_open

    from ftt_hub.registry.open import open_adapter
    from ftt_hub.transfer.assemble import Assembler
    from ftt_hub.transfer.lazy_tensors import DeltaSlice, Failures
    from ftt_hub.transfer.prepare import prepared

    name = "model.layers.0.mlp.up_proj.weight"
    with open_adapter(adapter) as opened, prepared(opened, family.source) as target:
        ours = DeltaSlice(
            target.plan.tensors[name],
            Assembler(target.checkpoint.read_bits, opened.container),
            Failures(),
        )
        with safe_open(family.tuned / "model.safetensors", "pt") as file:
            theirs = file.get_slice(name)
            assert ours.get_shape() == theirs.get_shape()
            assert ours.get_dtype() == theirs.get_dtype()
            for index in (
                ..., slice(None), slice(3, 9), (slice(2, 40), slice(5, 6)),
                (slice(None), slice(0, 16)), slice(5, 5), slice(-3, None), (..., slice(1, 3)),
            ):  # fmt: skip
                assert torch.equal(ours[index], load_state(family.tuned)[name][index]), index
