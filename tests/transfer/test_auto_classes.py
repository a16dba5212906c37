"""Streaming load through the AutoTransferModel classes, against merging on disk first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, build
from models import config, drifted, load_state, random_state, same_bits, save_model

import ftt_hub
from ftt_hub.errors import FttError, UnsupportedError

Built = Callable[[str], tuple[Path, Path, Path]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An architecture's adapter, target, and target merged on disk; each is made once."""
    made: dict[str, tuple[Path, Path, Path]] = {}

    def make(name: str) -> tuple[Path, Path, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source, tuned, target = build(folder, name)
            ftt_hub.extract(source, tuned, folder / "adapter")
            ftt_hub.apply(folder / "adapter", target, folder / "merged")
            made[name] = (folder / "adapter", target, folder / "merged")
        return made[name]

    return make


def assert_same(first: Any, second: Any) -> None:
    mine, theirs = first.state_dict(), second.state_dict()
    assert mine.keys() == theirs.keys()
    wrong = [name for name in mine if not same_bits(mine[name], theirs[name])]
    assert wrong == []


def streaming(name: str) -> Any:
    return getattr(ftt_hub, ARCHITECTURES[name][1].replace("Auto", "AutoTransfer"))


def plain(name: str) -> Any:
    return getattr(transformers, ARCHITECTURES[name][1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_streaming_load_equals_merging_on_disk(built: Built, name: str) -> None:
    adapter, target, merged = built(name)
    model = streaming(name).from_pretrained(adapter, base_model=target)
    expected = plain(name).from_pretrained(merged, dtype="auto")
    assert type(model) is type(expected)
    assert_same(model, expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_merged_folder_has_the_names_shapes_and_dtypes_of_the_target(
    built: Built, name: str
) -> None:
    _, target, merged = built(name)
    expected, found = load_state(target), load_state(merged)
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {
        n: (t.dtype, t.shape) for n, t in expected.items()
    }


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_a_headless_class_takes_a_checkpoint_with_a_head(built: Built, name: str) -> None:
    adapter, target, merged = built(name)
    model = ftt_hub.AutoTransferModel.from_pretrained(adapter, base_model=target)
    assert_same(model, transformers.AutoModel.from_pretrained(merged, dtype="auto"))


@pytest.mark.parametrize("name", ["llama", "mixtral"])
@pytest.mark.parametrize("dtype", [torch.float32, "float16"], ids=str)
def test_dtype_is_that_of_a_plain_load(built: Built, name: str, dtype: Any) -> None:
    adapter, target, merged = built(name)
    model = streaming(name).from_pretrained(adapter, base_model=target, dtype=dtype)
    assert_same(model, plain(name).from_pretrained(merged, dtype=dtype))


def test_attention_implementation_and_unknown_arguments_reach_transformers(built: Built) -> None:
    adapter, target, _ = built("llama")
    auto = streaming("llama")
    model = auto.from_pretrained(adapter, base_model=target, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    with pytest.raises(TypeError, match="no_such_argument"):
        auto.from_pretrained(adapter, base_model=target, no_such_argument=1)


def test_loading_info_is_passed_through(built: Built) -> None:
    adapter, target, _ = built("llama")
    auto = streaming("llama")
    model, info = auto.from_pretrained(adapter, base_model=target, output_loading_info=True)
    assert isinstance(model, transformers.LlamaForCausalLM)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_device_map_auto_is_a_plain_load(built: Built, name: str) -> None:
    pytest.importorskip("accelerate")
    adapter, target, merged = built(name)
    model = streaming(name).from_pretrained(adapter, base_model=target, device_map="auto")
    assert_same(model, plain(name).from_pretrained(merged, dtype="auto"))


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_weights_offloaded_to_disk_have_delta_in_them(
    built: Built, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("accelerate")
    adapter, target, merged = built(name)
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "disk"}
    places |= {"model.rotary_emb": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu"}
    model = streaming(name).from_pretrained(
        adapter, base_model=target, device_map=places, offload_folder=tmp_path / "offload"
    )
    assert model.lm_head.weight.is_meta
    expected = plain(name).from_pretrained(merged, dtype="auto")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, expected(tokens).logits)


def test_a_model_that_needs_code_from_its_repository_is_refused_until_trusted(
    tmp_path: Path,
) -> None:
    code = "\n".join(
        (
            "from transformers import LlamaConfig, LlamaForCausalLM",
            "class MyConfig(LlamaConfig):",
            "    model_type = 'my-llama'",
            "class MyModel(LlamaForCausalLM):",
            "    config_class = MyConfig",
        )
    )
    value = config(
        model_type="my-llama",
        architectures=["MyModel"],
        auto_map={"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"},
    )
    state = random_state(0)
    source = save_model(tmp_path / "s", state, value)
    tuned = save_model(tmp_path / "f", drifted(state, 1, 0.01), value)
    for folder in (source, tuned):
        (folder / "mine.py").write_text(code)
    ftt_hub.extract(source, tuned, tmp_path / "a")
    auto = ftt_hub.AutoTransferModelForCausalLM
    with pytest.raises((FttError, ValueError), match="trust_remote_code"):
        auto.from_pretrained(tmp_path / "a", base_model=source)
    model = auto.from_pretrained(tmp_path / "a", base_model=source, trust_remote_code=True)
    assert type(model).__name__ == "MyModel"
    name = "model.layers.0.mlp.up_proj.weight"
    assert same_bits(model.state_dict()[name], load_state(tuned)[name])


def test_a_class_for_another_task_is_refused(built: Built) -> None:
    adapter, target, _ = built("bert")
    with pytest.raises(UnsupportedError, match="knows no BertConfig"):
        ftt_hub.AutoTransferModelForImageTextToText.from_pretrained(adapter, base_model=target)


def test_a_loaded_model_refuses_the_same_adapter_again(built: Built) -> None:
    adapter, target, _ = built("llama")
    opened = ftt_hub.TransferAdapter.from_pretrained(adapter)
    model = streaming("llama").from_pretrained(adapter, base_model=target)
    with pytest.raises(FttError, match="added twice"):
        opened.apply_to(model)
    with pytest.raises(FttError, match="undo log"):
        opened.remove_from(model)
