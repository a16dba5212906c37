"""Extract and apply on real folders: bit exact, tied, added, resized, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import (
    WORDS,
    TinyFamily,
    config,
    drifted,
    load_state,
    random_state,
    same_bits,
    save_model,
)

import ftt_hub
from ftt_hub.errors import (
    CheckpointError,
    ExtractionError,
    FttError,
    IncompatibleError,
    NonFiniteError,
    OutputError,
    UnsupportedError,
)

NewFamily = Callable[..., TinyFamily]


def assert_same_model(first: Path, second: Path) -> None:
    mine, theirs = load_state(first), load_state(second)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert same_bits(tensor, theirs[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shards", [1, 3])
def test_delta_on_its_source_base_gives_the_fine_tuned_model_back(
    new_family: NewFamily, tmp_path: Path, dtype: torch.dtype, shards: int
) -> None:
    family = new_family(dtype=dtype, shards=shards)
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    ftt_hub.apply(adapter, family.source, tmp_path / "back")
    assert_same_model(tmp_path / "back", family.tuned)
    assert adapter.config.fidelity.exact


def test_recycling_is_the_correctly_rounded_sum(family: TinyFamily, tmp_path: Path) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    ftt_hub.apply(tmp_path / "adapter", family.target, tmp_path / "out")
    m_s, tuned, m_t = (load_state(f) for f in (family.source, family.tuned, family.target))
    for name, tensor in load_state(tmp_path / "out").items():
        exact = m_t[name].double() + (tuned[name].double() - m_s[name].double())
        assert torch.equal(tensor, exact.to(torch.bfloat16)), name


def test_the_target_keeps_its_own_config(family: TinyFamily, tmp_path: Path) -> None:
    target = save_model(tmp_path / "t", random_state(0), config(rope_theta=500000.0))
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    ftt_hub.apply(adapter, target, tmp_path / "out")
    merged = json.loads((tmp_path / "out" / "config.json").read_text())
    assert merged == json.loads((target / "config.json").read_text())
    report = adapter.verify(target)
    assert [f.check for f in report.findings if f.status == "warned"] == ["rope", "licence"]


def test_output_is_sharded_as_asked(family: TinyFamily, tmp_path: Path) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    ftt_hub.apply(adapter, family.target, tmp_path / "one")
    ftt_hub.apply(adapter, family.target, tmp_path / "many", max_shard_size=10_000)
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 3
    assert_same_model(tmp_path / "many", tmp_path / "one")


def test_the_result_may_have_another_dtype(family: TinyFamily, tmp_path: Path) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    ftt_hub.apply(adapter, family.target, tmp_path / "out", dtype="float32")
    m_s, tuned, m_t = (load_state(f) for f in (family.source, family.tuned, family.target))
    for name, tensor in load_state(tmp_path / "out").items():
        exact = m_t[name].double() + (tuned[name].double() - m_s[name].double())
        assert torch.equal(tensor, exact.float()), name
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float32"


def test_a_mixed_pair_stores_delta_in_the_wider_dtype(family: TinyFamily, tmp_path: Path) -> None:
    tuned = save_model(tmp_path / "f", drifted(random_state(0), 1, 0.01), dtype=torch.float32)
    adapter = ftt_hub.extract(family.source, tuned, tmp_path / "adapter")
    assert {e.dtype.name for e in adapter.opened.container.entries.values()} == {"F32"}
    ftt_hub.apply(adapter, family.source, tmp_path / "out", dtype="float32")
    assert_same_model(tmp_path / "out", tuned)


def test_half_and_bfloat16_meet_in_float32(family: TinyFamily, tmp_path: Path) -> None:
    tuned = save_model(tmp_path / "f", drifted(random_state(0), 1, 0.01), dtype=torch.float16)
    adapter = ftt_hub.extract(family.source, tuned, tmp_path / "adapter")
    assert {e.dtype.name for e in adapter.opened.container.entries.values()} == {"F32"}


def test_two_extractions_give_identical_bytes(family: TinyFamily, tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 4)):
        ftt_hub.extract(family.source, family.tuned, tmp_path / name, workers=workers)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_stored_copy_of_a_tied_head_is_kept_in_step(family: TinyFamily, tmp_path: Path) -> None:
    state = random_state(0)
    target = save_model(
        tmp_path / "t", {**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}
    )
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    ftt_hub.apply(adapter, target, tmp_path / "out")
    out = load_state(tmp_path / "out")
    tuned = load_state(family.tuned)["model.embed_tokens.weight"]
    assert same_bits(out["model.embed_tokens.weight"], tuned)
    assert same_bits(out["lm_head.weight"], tuned)


def test_a_tied_head_that_only_one_side_stores_is_no_new_tensor(
    family: TinyFamily, tmp_path: Path
) -> None:
    state = drifted(random_state(0), 1, 0.01)
    tuned = save_model(
        tmp_path / "f", {**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}
    )
    adapter = ftt_hub.extract(family.source, tuned, tmp_path / "adapter")
    assert adapter.config.tensors.added == []
    entry = adapter.opened.container.entries["lm_head.weight"]
    assert (entry.role, entry.of) == ("alias", "model.embed_tokens.weight")


def test_a_new_head_is_recorded_and_applied(family: TinyFamily, tmp_path: Path) -> None:
    head = torch.randn(3, 32).to(torch.bfloat16)
    tuned = save_model(tmp_path / "f", {**drifted(random_state(0), 1, 0.01), "score.weight": head})
    adapter = ftt_hub.extract(family.source, tuned, tmp_path / "adapter")
    assert adapter.config.tensors.added == ["score.weight"]
    ftt_hub.apply(adapter, family.target, tmp_path / "out")
    assert same_bits(load_state(tmp_path / "out")["score.weight"], head)


def test_integer_tensors_are_copied_when_equal(tmp_path: Path) -> None:
    positions = {"model.position_ids": torch.arange(64)}
    source = save_model(tmp_path / "s", {**random_state(0), **positions})
    tuned = save_model(tmp_path / "f", {**drifted(random_state(0), 1, 0.01), **positions})
    adapter = ftt_hub.extract(source, tuned, tmp_path / "adapter")
    ftt_hub.apply(adapter, source, tmp_path / "out")
    assert_same_model(tmp_path / "out", tuned)


def test_integer_tensors_that_changed_are_refused(tmp_path: Path) -> None:
    source = save_model(tmp_path / "s", {**random_state(0), "ids": torch.arange(8)})
    tuned = save_model(tmp_path / "f", {**random_state(1), "ids": torch.arange(8) + 1})
    with pytest.raises(ExtractionError, match=r"ids: an integer tensor \(I64\) changed"):
        ftt_hub.extract(source, tuned, tmp_path / "adapter")
    assert [p.name for p in tmp_path.iterdir() if "adapter" in p.name] == []


def test_a_zero_delta_is_refused(family: TinyFamily, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="Δ is zero"):
        ftt_hub.extract(family.source, family.source, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["source", "tuned"])
def test_extract_names_the_tensor_that_is_not_finite(
    tmp_path: Path, value: float, side: str
) -> None:
    good, bad = random_state(0), drifted(random_state(0), 1, 0.01)
    broken = good if side == "source" else bad
    broken["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    source, tuned = save_model(tmp_path / "s", good), save_model(tmp_path / "f", bad)
    with pytest.raises(NonFiniteError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        ftt_hub.extract(source, tuned, tmp_path / "adapter")
    assert [p.name for p in tmp_path.iterdir() if "adapter" in p.name] == []


def test_apply_names_the_tensor_of_the_target_that_is_not_finite(
    family: TinyFamily, tmp_path: Path
) -> None:
    state = random_state(0)
    state["model.norm.weight"][0] = float("nan")
    target = save_model(tmp_path / "t", state)
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    with pytest.raises(NonFiniteError, match=r"model\.norm\.weight"):
        ftt_hub.apply(adapter, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*partial*"))


def test_a_changed_shape_is_refused_by_name(family: TinyFamily, tmp_path: Path) -> None:
    state = random_state(1)
    state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(63, 32)
    tuned = save_model(tmp_path / "f", state)
    with pytest.raises(ExtractionError, match=r"up_proj\.weight.*expected \[64, 32\], found"):
        ftt_hub.extract(family.source, tuned, tmp_path / "adapter")


def test_another_architecture_is_refused(family: TinyFamily, tmp_path: Path) -> None:
    tuned = save_model(tmp_path / "f", random_state(1), config(model_type="mistral"))
    with pytest.raises(ExtractionError, match="expected llama, found mistral"):
        ftt_hub.extract(family.source, tuned, tmp_path / "adapter")
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    with pytest.raises(IncompatibleError, match="adapter is for llama, the target is mistral"):
        ftt_hub.apply(adapter, tuned, tmp_path / "out")


def test_a_stranger_of_the_same_shape_is_refused(family: TinyFamily, tmp_path: Path) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    assert adapter.verify(family.stranger).status == "warned"  # headers cannot know
    assert adapter.verify(family.stranger, depth="sketch").status == "rejected"
    with pytest.raises(IncompatibleError, match="unrelated to the source base"):
        ftt_hub.apply(adapter, family.stranger, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.warns(UserWarning, match="forced in spite of"):
        ftt_hub.apply(adapter, family.stranger, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_continued_version_is_accepted(family: TinyFamily, tmp_path: Path) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    (finding,) = [
        f for f in adapter.verify(family.target, depth="sketch").findings if f.check == "sketch"
    ]
    assert finding.status == "accepted"
    assert "same lineage" in finding.reason


def test_without_a_sketch_the_lineage_is_a_warning(family: TinyFamily, tmp_path: Path) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter", sketch=False)
    assert not (tmp_path / "adapter" / "sketch.safetensors").exists()
    assert adapter.verify(family.stranger, depth="sketch").status == "warned"


def test_force_never_adds_what_has_another_shape(family: TinyFamily, tmp_path: Path) -> None:
    state = random_state(0)
    state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(63, 32)
    target = save_model(tmp_path / "t", state)
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    with pytest.raises(IncompatibleError, match="up_proj"):
        ftt_hub.apply(adapter, target, tmp_path / "out", force=True)


def test_quantized_checkpoints_are_refused(family: TinyFamily, tmp_path: Path) -> None:
    quantized = config(quantization_config={"quant_method": "gptq"})
    target = save_model(tmp_path / "q", random_state(0), quantized)
    with pytest.raises(UnsupportedError, match="gptq"):
        ftt_hub.extract(target, family.tuned, tmp_path / "adapter")
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    with pytest.raises(IncompatibleError, match="stored quantized"):
        ftt_hub.apply(adapter, target, tmp_path / "out")


@pytest.mark.parametrize("kind", [torch.float64, torch.float8_e4m3fn], ids=str)
def test_dtypes_without_a_delta_are_refused(
    family: TinyFamily, tmp_path: Path, kind: torch.dtype
) -> None:
    state = {n: t.to(torch.bfloat16) for n, t in random_state(1).items()}
    save_model(tmp_path / "f", state)
    from safetensors.torch import save_file

    state["model.layers.0.mlp.up_proj.weight"] = random_state(1)[
        "model.layers.0.mlp.up_proj.weight"
    ].to(kind)
    save_file(state, tmp_path / "f" / "model.safetensors")
    with pytest.raises(UnsupportedError, match=r"up_proj\.weight"):
        ftt_hub.extract(family.source, tmp_path / "f", tmp_path / "adapter")


def test_an_output_folder_with_content_is_left_alone(family: TinyFamily, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        ftt_hub.extract(family.source, family.tuned, out)
    assert [p.name for p in out.iterdir()] == ["precious.txt"]
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(
    family: TinyFamily, tmp_path: Path, scale: float
) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter")
    with pytest.raises(FttError, match="finite number"):
        ftt_hub.apply(adapter, family.target, tmp_path / "out", scale=scale)


def test_a_pickled_checkpoint_is_read_with_a_note(family: TinyFamily, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "f", drifted(random_state(0), 1, 0.01))
    torch.save(load_state(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.warns(UserWarning, match="Convert it to safetensors"):
        adapter = ftt_hub.extract(family.source, folder, tmp_path / "adapter")
    ftt_hub.apply(adapter, family.source, tmp_path / "out")
    assert_same_model(tmp_path / "out", family.tuned)


def test_pickled_code_is_never_run(family: TinyFamily, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    folder = save_model(tmp_path / "f", random_state(1))
    torch.save({"model.norm.weight": Evil()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with (
        pytest.warns(UserWarning, match="pickle"),
        pytest.raises(CheckpointError, match="not a plain state dict"),
    ):
        ftt_hub.extract(family.source, folder, tmp_path / "adapter")
    assert not (tmp_path / "owned").exists()


def test_tokenizer_and_generation_config_travel_when_they_differ(
    family: TinyFamily, tmp_path: Path
) -> None:
    tuned = save_model(
        tmp_path / "f", drifted(random_state(0), 1, 0.01), words=[*WORDS[:-1], "renamed"],
        template="{{ messages }}",
    )  # fmt: skip
    (tuned / "generation_config.json").write_text('{"eos_token_id": 7}')
    adapter = ftt_hub.extract(family.source, tuned, tmp_path / "adapter")
    assert {"tokenizer.json", "chat_template.jinja"} <= adapter.config.files.keys()
    assert adapter.config.generation_config == {"eos_token_id": 7}
    ftt_hub.apply(adapter, family.source, tmp_path / "out")
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tuned / name).read_bytes()
