"""Conversions where models and adapters are out of the ordinary."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hub_fixtures import client, server
from hub_server import HubServer
from models import TinyFamily, config, drifted, load_state, same_bits, save_model
from peft import LoraConfig, PeftModel, get_peft_model
from peft_adapters import T, make_adapter, merged_by_peft
from safetensors.torch import load_file

import ftt_hub
from ftt_hub.convert.low_rank import Goal
from ftt_hub.errors import FttError, IncompatibleError, RefError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's notes on training; ours are asked for

__all__ = ["client", "server"]


def adapted(model: Any, out: Path, **settings: Any) -> Path:
    """A LoRA adapter of a model, everything trainable moved."""
    made = get_peft_model(model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                noise = 0.02 * torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise.to(parameter.dtype))
    made.save_pretrained(out)
    return out


def assert_applies_as_merged(
    adapter: ftt_hub.TransferAdapter, base: Path, expected: dict[str, torch.Tensor], out: Path
) -> None:
    """All but one weight in a thousand are PEFT's bits, and those by a rounding."""
    adapter.apply(base, out)
    found = load_state(out)
    wrong = 0
    for name, value in found.items():
        theirs = expected[name].to(value.dtype)
        wrong += int((value != theirs).sum())
        close = 2.0**-7 * theirs.float().abs() + 2.0**-20 * float(theirs.float().abs().max())
        assert bool(((value.float() - theirs.float()).abs() <= close).all()), name
    assert wrong <= sum(t.numel() for t in found.values()) / 1000


def gpt2(folder: Path) -> Path:
    torch.manual_seed(0)
    made = transformers.GPT2Config(
        vocab_size=96,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
    )
    transformers.GPT2LMHeadModel(made).bfloat16().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("codec", ["factored", "exact"])
def test_conv1d_layers_that_store_inputs_by_outputs_convert_both_ways(
    tmp_path: Path, codec: str
) -> None:
    base = gpt2(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = adapted(
        model,
        tmp_path / "peft",
        task_type="CAUSAL_LM",
        r=4,
        fan_in_fan_out=True,
        target_modules=["c_attn", "c_fc"],
    )
    made = ftt_hub.convert_from_peft(lora, tmp_path / "out", base=base, codec=codec)
    stored = {e.codec for e in made.opened.container.entries.values() if e.slot is not None}
    assert stored == {codec}
    raw = merged_by_peft(base, lora)
    expected = {**raw, **{n.removeprefix("transformer."): t for n, t in raw.items()}}
    assert_applies_as_merged(made, base, expected, tmp_path / "merged")
    report = ftt_hub.convert_to_lora(made, tmp_path / "lora", rank=4)
    assert all(m.kept for m in report.modules) == (codec == "factored")
    settings = json.loads((tmp_path / "lora/adapter_config.json").read_text())
    assert settings["fan_in_fan_out"]
    again = merged_by_peft(base, tmp_path / "lora")
    before = dict(
        transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    )
    for name, value in again.items():
        change = (raw[name].double() - before[name].double()).norm()
        assert float((value.double() - raw[name].double()).norm()) <= 0.02 * float(change) + 1e-9


def test_biases_that_lora_trains_are_stored_exactly_beside_the_factors(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = adapted(
        model,
        tmp_path / "peft",
        task_type="CAUSAL_LM",
        r=2,
        fan_in_fan_out=True,
        bias="all",
        target_modules=["c_attn"],
    )
    made = ftt_hub.convert_from_peft(lora, tmp_path / "out", base=base)
    entries = [e for e in made.opened.container.entries.values() if e.slot is not None]
    assert {e.codec for e in entries if e.name.endswith("bias")} == {"exact"}
    assert {e.codec for e in entries if "c_attn.weight" in e.name} == {"factored"}
    raw = merged_by_peft(base, lora)
    expected = {**raw, **{n.removeprefix("transformer."): t for n, t in raw.items()}}
    assert_applies_as_merged(made, base, expected, tmp_path / "merged")


def test_a_classifier_with_its_head_saved_whole(family: TinyFamily, tmp_path: Path) -> None:
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(family.source, dtype="auto", num_labels=3)
    lora = adapted(
        model,
        tmp_path / "peft",
        task_type="SEQ_CLS",
        r=2,
        target_modules=["q_proj"],
        modules_to_save=["score"],
    )
    made = ftt_hub.convert_from_peft(lora, tmp_path / "out", base=family.source)
    entries = made.opened.container.entries
    assert entries["score.weight"].role == "added"
    assert entries["model.layers.0.self_attn.q_proj.weight"].codec == "factored"
    fresh = auto.from_pretrained(family.source, dtype="auto", num_labels=3)
    expected = dict(PeftModel.from_pretrained(fresh, lora).merge_and_unload().state_dict())
    assert_applies_as_merged(made, family.source, expected, tmp_path / "merged")
    assert "score.weight" in load_state(tmp_path / "merged")


def test_experts_that_the_checkpoint_stores_apart_are_refused(tmp_path: Path) -> None:
    small = transformers.MixtralConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=96,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    torch.manual_seed(0)
    base = tmp_path / "base"
    transformers.MixtralForCausalLM(small).bfloat16().save_pretrained(base)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = adapted(
        model,
        tmp_path / "peft",
        task_type="CAUSAL_LM",
        r=2,
        target_modules=[],
        target_parameters=["mlp.experts.gate_up_proj"],
    )
    with pytest.raises(UnsupportedError, match="stores in other pieces"):
        ftt_hub.convert_from_peft(lora, tmp_path / "out", base=base)
    assert not (tmp_path / "out").exists()


def test_an_adapter_in_a_repository_on_the_hub(
    client: HubServer, family: TinyFamily, tmp_path: Path
) -> None:
    lora = make_adapter(family.source, tmp_path / "peft", "LORA", **T, r=2)
    files = {p.name: p.read_bytes() for p in lora.iterdir() if p.is_file()}
    client.commit("me/lora", files)
    made = ftt_hub.convert_from_peft("me/lora", tmp_path / "out", base=family.source)
    assert made.config.fine_tuned.id == "me/lora"
    assert made.config.codec.id == "factored"
    client.commit("me/empty", {"x.txt": b"x"})
    with pytest.raises(RefError, match="adapter_config"):
        ftt_hub.convert_from_peft("me/empty", tmp_path / "none", base=family.source)


@pytest.fixture(scope="module")
def anchored(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("anchored") / "a"
    ftt_hub.extract(family.source, family.tuned, out, codec="anchored").close()
    return out


def test_an_anchored_adapter_converts_with_its_source_base_and_says_what_it_lacks(
    family: TinyFamily, anchored: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "exact"
    ftt_hub.extract(family.source, family.tuned, plain).close()
    for adapter, name in ((anchored, "ours"), (plain, "theirs")):
        ftt_hub.convert_to_lora(adapter, tmp_path / name, rank=4, base=family.source)
        ftt_hub.export_channels(adapter, tmp_path / f"{name}.st", source_base=family.source)
    for left, right in (
        ("ours/adapter_model.safetensors", "theirs/adapter_model.safetensors"),
        ("ours.st", "theirs.st"),
    ):
        ours, theirs = load_file(tmp_path / left), load_file(tmp_path / right)
        assert all(same_bits(ours[n], t) for n, t in theirs.items())
    with pytest.raises(RefError, match="decodes against its source base only"):
        ftt_hub.convert_to_lora(anchored, tmp_path / "none", rank=4)
    with pytest.raises(RefError, match="--source-base"):
        ftt_hub.export_channels(anchored, tmp_path / "none.st")
    with pytest.raises(IncompatibleError, match="not the source base"):
        ftt_hub.convert_to_lora(anchored, tmp_path / "none", rank=4, base=family.target)
    assert not (tmp_path / "none").exists()


def test_memory_of_to_lora_grows_with_the_factors_alone(tmp_path: Path) -> None:
    peaks = []
    for layers in (2, 14):
        state = {}
        for number in range(layers):
            generator = torch.Generator().manual_seed(number)
            shape = (512, 512)
            state[f"model.layers.{number}.mlp.up_proj.weight"] = torch.randn(
                shape, generator=generator
            )
        root = tmp_path / str(layers)
        changes = {"hidden_size": 512, "intermediate_size": 512, "num_hidden_layers": layers}
        source = save_model(root / "s", state, config(**changes))
        tuned = save_model(root / "t", drifted(state, 1, 0.01), config(**changes))
        ftt_hub.extract(source, tuned, root / "a", workers=1).close()
        tracemalloc.start()
        try:
            ftt_hub.convert_to_lora(root / "a", root / "lora", rank=4, workers=1)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000, peaks  # Δ of the layers more takes 12 MB in float32


def test_goals_outside_their_range_name_the_range() -> None:
    with pytest.raises(FttError, match="between 0 and 1"):
        Goal(energy=1.0)
