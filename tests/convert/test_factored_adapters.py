"""LoRA adapters that keep their factors: from PEFT, through every use of an adapter, to LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import TinyFamily, config, load_state, same_bits, save_model
from peft import PeftModel
from peft_adapters import T, make_adapter, merged_by_peft
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.errors import ExtractionError
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's notes on training; ours are asked for

State = dict[str, torch.Tensor]
LOW_RANK: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True, "r": 3},
    "patterns": {"r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "beside saved norms": {"modules_to_save": ["norm"]},
}


def codecs(made: ftt_hub.TransferAdapter) -> dict[str, str | None]:
    entries = made.opened.container.entries.values()
    return {e.name: e.codec for e in entries if e.slot is not None}


def unequal(found: State, expected: State) -> tuple[int, int]:
    """Elements that differ, and the total; by no more than a rounding, or 2^-20 of the largest."""
    count = 0
    for name, value in found.items():
        theirs = expected[name]
        places = (value != theirs).nonzero(as_tuple=True)
        ours, others = value[places].double(), theirs[places].double()
        unit = torch.finfo(value.dtype).eps * torch.maximum(ours.abs(), others.abs())
        unit = unit.clamp(min=2.0**-20 * float(theirs.abs().max()))  # where Δ and m cancel
        assert bool(((ours - others).abs() <= unit).all()), name
        count += len(places[0])
    return count, sum(t.numel() for t in found.values())


@pytest.mark.parametrize("variant", LOW_RANK)
def test_base_and_factors_are_what_peft_merges_but_for_one_rounding_in_a_thousand(
    family: TinyFamily, tmp_path: Path, variant: str
) -> None:
    adapter = make_adapter(family.source, tmp_path / "peft", "LORA", **{**T, **LOW_RANK[variant]})
    made = ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=family.source)
    fidelity = made.config.fidelity
    assert made.config.codec.id == "factored"
    assert 0 < fidelity.relative_error < 1e-5
    assert not fidelity.exact
    stored = codecs(made)
    assert {c for n, c in stored.items() if "norm" not in n} == {"factored"}
    assert {c for n, c in stored.items() if "norm" in n} <= {"exact"}
    made.apply(family.source, tmp_path / "merged")
    wrong, total = unequal(load_state(tmp_path / "merged"), merged_by_peft(family.source, adapter))
    assert wrong <= total / 1000


def test_an_embedding_keeps_its_factors_and_is_rounded_once_where_peft_rounds_twice(
    family: TinyFamily, tmp_path: Path
) -> None:
    settings = {"target_modules": ["embed_tokens"], "r": 2}
    adapter = make_adapter(family.source, tmp_path / "peft", "LORA", **settings)
    made = ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=family.source)
    made.apply(family.source, tmp_path / "merged")
    name = "model.embed_tokens.weight"
    assert codecs(made) == {name: "factored"}
    held = load_file(adapter / "adapter_model.safetensors")
    key = "base_model.model.model.embed_tokens.lora_embedding_"
    change = 8 / 2 * (held[f"{key}B"].double() @ held[f"{key}A"].double()).T
    ideal = load_state(family.source)[name].double() + change
    ours, theirs = (
        load_state(tmp_path / "merged")[name],
        merged_by_peft(family.source, adapter)[name],
    )
    assert float((ours != ideal.bfloat16()).sum()) <= ours.numel() / 100
    assert float((ours - ideal).norm()) < float((theirs - ideal).norm())


def test_adalora_keeps_its_factors(family: TinyFamily, tmp_path: Path) -> None:
    settings = {**T, "init_r": 4, "target_r": 2, "total_step": 10}
    adapter = make_adapter(family.source, tmp_path / "peft", "ADALORA", **settings)
    made = ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=family.source)
    assert set(codecs(made).values()) == {"factored"}
    made.apply(family.source, tmp_path / "merged")
    wrong, total = unequal(load_state(tmp_path / "merged"), merged_by_peft(family.source, adapter))
    assert wrong <= total / 1000


@pytest.mark.parametrize("kind", ["DORA", "LOHA", "IA3"])
def test_updates_that_are_no_product_become_an_exact_delta(
    family: TinyFamily, tmp_path: Path, kind: str
) -> None:
    settings = {
        "DORA": {"use_dora": True},
        "LOHA": {},
        "IA3": {"feedforward_modules": ["down_proj"]},
    }
    name = "LORA" if kind == "DORA" else kind
    adapter = make_adapter(family.source, tmp_path / "peft", name, **{**T, **settings[kind]})
    made = ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=family.source)
    assert made.config.codec.id == "exact"
    assert made.config.fidelity.exact


def test_factors_of_a_rank_that_saves_nothing_become_an_exact_delta(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = make_adapter(family.source, tmp_path / "peft", "LORA", **T, r=16)
    made = ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=family.source)
    assert {n.split(".")[-2]: c for n, c in codecs(made).items()} == {
        "q_proj": "factored",
        "v_proj": "exact",
        "down_proj": "factored",
    }


def test_two_models_have_no_factors(family: TinyFamily, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="factors of Δ are not known"):
        ftt_hub.extract(family.source, family.tuned, tmp_path / "out", codec="factored")


def test_extract_takes_the_factors_of_a_lora_folder_when_asked(
    family: TinyFamily, lora: Path, made: ftt_hub.TransferAdapter, tmp_path: Path
) -> None:
    found = ftt_hub.extract(family.source, lora, tmp_path / "out", codec="factored")
    entries = found.opened.container.entries
    assert entries == made.opened.container.entries


@pytest.fixture(scope="module")
def lora(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(family.source, tmp_path_factory.mktemp("lora") / "peft", "LORA", **T, r=4)


@pytest.fixture(scope="module")
def made(
    family: TinyFamily, lora: Path, tmp_path_factory: pytest.TempPathFactory
) -> ftt_hub.TransferAdapter:
    out = tmp_path_factory.mktemp("factored") / "a"
    return ftt_hub.convert_from_peft(lora, out, base=family.source)


def product(folder: Path, name: str, scale: float) -> torch.Tensor:
    held = load_file(folder / "adapter_model.safetensors")
    key = "base_model.model." + name.removesuffix(".weight")
    left, right = (held[f"{key}.lora_{part}.weight"].double() for part in "BA")
    return scale * left @ right


def test_to_lora_gives_the_factors_back_without_an_svd(
    family: TinyFamily, lora: Path, made: ftt_hub.TransferAdapter, tmp_path: Path
) -> None:
    report = ftt_hub.convert_to_lora(made, tmp_path / "lora", rank=8)
    assert all(m.kept and m.rank == 4 and m.error == 0 for m in report.modules)
    assert report.total_error == 0
    scale = 8 / 4  # alpha of PEFT's default, over r
    theirs = load_file(lora / "adapter_model.safetensors")
    ours = load_file(tmp_path / "lora/adapter_model.safetensors")
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        expected = theirs[name] * (scale if "lora_B" in name else 1)
        assert float((value - expected).abs().max()) <= 2.0**-20 * float(expected.abs().max())
    state = merged_by_peft(family.source, tmp_path / "lora")
    wrong, total = unequal(state, merged_by_peft(family.source, lora))
    assert wrong <= total / 1000


def test_to_lora_shortens_the_factors_as_the_best_approximation_does(
    lora: Path, made: ftt_hub.TransferAdapter, tmp_path: Path
) -> None:
    report = ftt_hub.convert_to_lora(made, tmp_path / "lora", rank=2)
    assert not any(m.kept for m in report.modules)
    for module in report.modules:
        values = torch.linalg.svdvals(product(lora, f"{module.module}.weight", 2.0))
        best = float(values[2:].norm() / values.norm())
        assert module.error == pytest.approx(best, rel=1e-4)
        ours = product(tmp_path / "lora", f"{module.module}.weight", 1.0)
        error = (ours - product(lora, f"{module.module}.weight", 2.0)).norm() / values.norm()
        assert float(error) == pytest.approx(best, rel=1e-4)
    report = ftt_hub.convert_to_lora(made, tmp_path / "energy", energy=0.8)
    assert all(m.rank < 4 and 1 - m.error**2 >= 0.8 for m in report.modules)


def test_loading_applying_and_live_use_agree(
    family: TinyFamily, made: ftt_hub.TransferAdapter, tmp_path: Path
) -> None:
    folder = made.opened.folder
    made.apply(family.target, tmp_path / "merged")
    expected = load_state(tmp_path / "merged")
    loaded = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(folder, base_model=family.target)
    model = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    made.apply_to(model)
    for found in (loaded, model):
        state = found.state_dict()
        assert all(same_bits(state[name], value) for name, value in expected.items())
    made.remove_from(model)
    assert all(same_bits(t, before[name]) for name, t in model.state_dict().items())
    plain = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
    peft = PeftModel.from_pretrained(plain, folder)
    merged = peft.merge_and_unload().state_dict()
    assert all(same_bits(merged[name], value) for name, value in expected.items())


def test_verify_accepts_it_and_says_nothing_of_its_float32(
    family: TinyFamily, made: ftt_hub.TransferAdapter
) -> None:
    for depth in ("headers", "sketch", "weights"):
        verdict = made.verify(family.target, depth=depth, source_base=family.source)
        found = {finding.check: finding.status.value for finding in verdict.findings}
        assert found["dtype"] == "accepted"


def test_combining_with_an_exact_delta_keeps_the_dtype_of_the_weights(
    family: TinyFamily, made: ftt_hub.TransferAdapter, tmp_path: Path
) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "exact").close()
    recipe = {
        "method": "linear",
        "adapters": [
            {"adapter": str(made.opened.folder), "weight": 1.0},
            {"adapter": str(tmp_path / "exact"), "weight": 0.5},
        ],
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    ftt_hub.combine(tmp_path / "r.yaml", tmp_path / "both")
    both = ftt_hub.TransferAdapter.from_pretrained(tmp_path / "both")
    assert {e.dtype.name for e in both.opened.container.entries.values()} == {"BF16"}
    both.apply(family.source, tmp_path / "merged")
    found, source, tuned = (
        load_state(p) for p in (tmp_path / "merged", family.source, family.tuned)
    )
    name = "model.layers.0.self_attn.q_proj.weight"
    change = merged_by_peft(family.source, made.opened.folder)[name].double()
    ideal = change + 0.5 * (tuned[name].double() - source[name].double())
    assert float((found[name].double() - ideal).norm() / ideal.norm()) < 0.005


def test_frames_share_their_right_factor_and_slices_decode_alone(tmp_path: Path) -> None:
    rows, columns, rank = 3 * (BLOCK_ELEMENTS // 2048) + 5, 2048, 4
    changes = {
        "vocab_size": rows,
        "hidden_size": columns,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "head_dim": 512,
    }
    names = {"model.embed_tokens.weight": (rows, columns), "model.norm.weight": (columns,)}
    for part, shape in (
        ("q_proj", (2048, 2048)),
        ("k_proj", (1024, 2048)),
        ("v_proj", (1024, 2048)),
        ("o_proj", (2048, 2048)),
    ):
        names[f"model.layers.0.self_attn.{part}.weight"] = shape
    for part, shape in (
        ("gate_proj", (32, 2048)),
        ("up_proj", (32, 2048)),
        ("down_proj", (2048, 32)),
    ):
        names[f"model.layers.0.mlp.{part}.weight"] = shape
    for part in ("input_layernorm", "post_attention_layernorm"):
        names[f"model.layers.0.{part}.weight"] = (columns,)
    base = save_model(
        tmp_path / "base",
        {n: torch.zeros(s) for n, s in names.items()},
        config(**changes),
        words=None,
    )
    adapter = tmp_path / "peft"
    adapter.mkdir()
    value = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "task_type": "CAUSAL_LM",
        "target_modules": ["embed_tokens"],
        "base_model_name_or_path": "base",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(value))
    torch.manual_seed(0)
    key = "base_model.model.model.embed_tokens.lora_embedding_"
    held = {f"{key}A": torch.randn(rank, rows), f"{key}B": torch.randn(columns, rank)}
    save_file(held, adapter / "adapter_model.safetensors")
    made = ftt_hub.convert_from_peft(adapter, tmp_path / "out", base=base)
    container = made.opened.container
    entry = container.entries["model.embed_tokens.weight"]
    assert len(entry.blocks) == 4
    assert entry.nbytes < 3 * (rows + columns) * rank
    whole = np.concatenate([b.hi for _, b in container.decode_range(entry, 0, entry.count)])
    start = BLOCK_ELEMENTS - 3 * columns
    parts = [b.hi for _, b in container.decode_range(entry, start, 6 * columns)]
    np.testing.assert_array_equal(np.concatenate(parts), whole[start : start + 6 * columns])
    found = torch.from_numpy(whole.view(np.float32).reshape(rows, columns))
    expected = (held[f"{key}B"] @ held[f"{key}A"]).T
    assert float((found - expected).norm() / expected.norm()) < 3e-6
