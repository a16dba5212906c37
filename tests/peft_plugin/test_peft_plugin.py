"""The loaders of transformers and PEFT know transfer adapters, and never half."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, build
from hub_fixtures import client, server
from hub_server import HubServer
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
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.errors import (
    AlreadyAppliedError,
    FttError,
    IncompatibleError,
    IntegrityError,
    UnsupportedError,
)

__all__ = ["client", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
State = dict[str, torch.Tensor]


def bits_of(model: Any) -> State:
    """The base model's own tensors, wherever PEFT put it."""
    named = {k.removeprefix("base_model.model."): v for k, v in model.state_dict().items()}
    return {k: v.clone() for k, v in named.items() if "transfer_slots" not in k}


def differing(first: Any, second: Any) -> list[str]:
    mine, theirs = bits_of(first), bits_of(second)
    assert mine.keys() == theirs.keys()
    return [name for name in mine if not same_bits(mine[name], theirs[name])]


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def with_load_adapter(model: Any, adapter: Path) -> Any:
    model.load_adapter(str(adapter))
    return model


def with_peft_model(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter))


PATHS = pytest.mark.parametrize("path", [with_load_adapter, with_peft_model])
Way = Callable[[Any, Path], Any]


@pytest.fixture(scope="module")
def adapters(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of one source base; the first brings a generation config."""
    folder = tmp_path_factory.mktemp("adapters")
    tuned = save_model(folder / "tuned", load_state(family.tuned))
    ends = {"eos_token_id": [2, 17], "max_new_tokens": 5, "bos_token_id": 1}
    (tuned / "generation_config.json").write_text(json.dumps(ends))
    other = save_model(folder / "other", drifted(random_state(0), 5, 0.02))
    ftt_hub.extract(family.source, tuned, folder / "one")
    ftt_hub.extract(family.source, other, folder / "two")
    ftt_hub.apply(folder / "one", family.target, folder / "merged-one")
    ftt_hub.apply(folder / "two", family.target, folder / "merged-two")
    return folder / "one", folder / "two"


def merged(adapter: Path) -> Any:
    return load(adapter.parent / f"merged-{adapter.name}")


def damage(adapter: Path, folder: Path, change: Callable[[State], None]) -> Path:
    """A copy of an adapter whose slots were changed."""
    folder.mkdir()
    for file in adapter.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "adapter_model.safetensors")
    change(state)
    save_file(state, folder / "adapter_model.safetensors")
    return folder


def test_importing_ftt_hub_stays_light_and_registers_whenever_peft_comes() -> None:
    code = """
import sys
import ftt_hub
heavy = {"torch", "peft", "transformers", "click", "numpy"} & sys.modules.keys()
assert not heavy, heavy
from peft import PEFT_TYPE_TO_CONFIG_MAPPING
assert PEFT_TYPE_TO_CONFIG_MAPPING["TRANSFER"].__name__ == "TransferConfig"
for name in [n for n in sys.modules if n.split(".")[0] == "ftt_hub"]:
    del sys.modules[name]
PEFT_TYPE_TO_CONFIG_MAPPING.pop("TRANSFER")
import ftt_hub
assert "TRANSFER" in PEFT_TYPE_TO_CONFIG_MAPPING
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@PATHS
def test_a_native_load_equals_merging_on_disk(
    family: TinyFamily, adapters: tuple[Path, Path], path: Way
) -> None:
    model = path(load(family.target), adapters[0])
    assert differing(model, merged(adapters[0])) == []


def test_auto_model_gives_the_fine_tuned_model_as_a_plain_one(
    family: TinyFamily,
    adapters: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(family.root)  # the adapter names its source base "source"
    model = load(adapters[0])
    tuned = load(adapters[0].parent / "tuned")
    assert differing(model, tuned) == []
    assert not hasattr(model, "transfer_slots")
    assert not hasattr(model, "peft_config")
    assert model.generation_config.eos_token_id == [2, 17]
    tokens = torch.tensor([[1, 5, 9]])
    assert torch.equal(model.generate(tokens), tuned.generate(tokens))
    model.save_pretrained(tmp_path / "saved")
    assert sorted(p.name for p in (tmp_path / "saved").glob("*model*")) == ["model.safetensors"]
    assert differing(load(tmp_path / "saved"), tuned) == []


def test_merge_and_unload_gives_a_plain_model_that_saves_and_generates(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    model = with_peft_model(load(family.target), adapters[0]).merge_and_unload()
    expected = merged(adapters[0])
    assert type(model) is type(expected)
    assert not hasattr(model, "transfer_slots")
    model.save_pretrained(tmp_path / "saved")
    assert differing(load(tmp_path / "saved"), expected) == []
    tokens = torch.tensor([[1, 5, 9]])
    assert torch.equal(model.generate(tokens), expected.generate(tokens))


def test_unload_gives_the_targets_own_bits(family: TinyFamily, adapters: tuple[Path, Path]) -> None:
    model = with_peft_model(load(family.target), adapters[0]).unload()
    assert differing(model, load(family.target)) == []


def test_tied_embeddings_stay_tied_and_are_added_once(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = with_load_adapter(load(family.target), adapters[0])
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
@PATHS
def test_fused_experts_are_right(tmp_path: Path, name: str, path: Way) -> None:
    source, tuned, target = build(tmp_path, name)
    ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(tmp_path / "a", target, tmp_path / "m")
    assert ARCHITECTURES[name][1] == "AutoModelForCausalLM"
    assert differing(path(load(target), tmp_path / "a"), load(tmp_path / "m")) == []


@PATHS
def test_fused_experts_save_under_their_checkpoint_names(tmp_path: Path, path: Way) -> None:
    source, tuned, target = build(tmp_path, "mixtral")
    ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(tmp_path / "a", target, tmp_path / "m")
    model = path(load(target), tmp_path / "a")
    model = model.merge_and_unload() if path is with_peft_model else model
    model.save_pretrained(tmp_path / "saved")
    mine, theirs = load_state(tmp_path / "saved"), load_state(tmp_path / "m")
    assert mine.keys() == theirs.keys()
    assert all(same_bits(mine[name], theirs[name]) for name in mine)


def test_loading_twice_is_refused_and_changes_nothing(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = with_load_adapter(load(family.target), adapters[0])
    for path in (with_load_adapter, with_peft_model):
        with pytest.raises(AlreadyAppliedError, match="added twice"):
            path(model, adapters[0])
        assert differing(model, merged(adapters[0])) == []


@PATHS
def test_a_missing_slot_is_found_and_the_model_stays_as_it_was(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path, path: Way
) -> None:
    def drop(state: State) -> None:
        del state["base_model.model.transfer_slots.3._extra_state"]

    bad = damage(adapters[0], tmp_path / "bad", drop)
    model = load(family.target)
    with pytest.raises(IntegrityError, match=r"not all slots .* arrived"):
        path(model, bad)
    assert differing(model, load(family.target)) == []
    assert not hasattr(model, "transfer_slots")
    assert differing(path(model, adapters[0]), merged(adapters[0])) == []


@PATHS
def test_a_damaged_slot_leaves_the_model_as_it_was(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path, path: Way
) -> None:
    def flip(state: State) -> None:
        state["base_model.model.transfer_slots.9._extra_state"][-1] ^= 1

    bad = damage(adapters[0], tmp_path / "bad", flip)
    model = load(family.target)
    with pytest.raises(IntegrityError, match="does not match its hash"):
        path(model, bad)
    assert differing(model, load(family.target)) == []
    assert differing(path(model, adapters[0]), merged(adapters[0])) == []


@pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed")
def test_a_forward_pass_through_an_incomplete_adapter_raises(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    from peft import PeftConfig, get_peft_model

    model = get_peft_model(load(family.source), PeftConfig.from_pretrained(str(adapters[0])))
    with pytest.raises(IntegrityError, match="nothing was added"):
        model(torch.tensor([[1, 2]]))


@PATHS
def test_a_stranger_is_refused_and_stays_as_it_was(
    tmp_path: Path, adapters: tuple[Path, Path], path: Way
) -> None:
    source, _, _ = build(tmp_path, "mixtral")
    model = load(source)
    with pytest.raises(IncompatibleError, match="mixtral"):
        path(model, adapters[0])
    assert differing(model, load(source)) == []


@PATHS
def test_a_stranger_of_the_same_shape_is_told_by_the_sketch(
    family: TinyFamily, adapters: tuple[Path, Path], path: Way
) -> None:
    model = load(family.stranger)
    with pytest.raises(IncompatibleError, match="unrelated"):
        path(model, adapters[0])
    assert differing(model, load(family.stranger)) == []


def added_token(family: TinyFamily, folder: Path) -> Path:
    """An adapter of a model with one token more."""
    state = drifted(random_state(0), 1, 0.01)
    rows = torch.cat([state["model.embed_tokens.weight"], torch.ones(1, 32)])
    words = [*WORDS, "wnew"]
    tuned = save_model(
        folder / "f",
        {**state, "model.embed_tokens.weight": rows},
        config(vocab_size=len(words)),
        words=words,
    )
    ftt_hub.extract(family.source, tuned, folder / "a")
    return folder / "a"


@PATHS
def test_added_tokens_get_their_rows(family: TinyFamily, tmp_path: Path, path: Way) -> None:
    adapter = added_token(family, tmp_path)
    model = path(load(family.target), adapter)
    expected = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target
    )
    assert differing(model, expected) == []
    assert model.get_input_embeddings().weight.shape[0] == len(WORDS) + 1


@PATHS
def test_added_tokens_are_refused_where_nothing_tells_their_rows(
    family: TinyFamily, tmp_path: Path, path: Way
) -> None:
    adapter = added_token(family, tmp_path)
    (adapter / "tokenizer.json").unlink()
    model = load(family.target)
    with pytest.raises(FttError, match=r"AutoTransferModel|apply_to"):
        path(model, adapter)
    assert differing(model, load(family.target)) == []


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_an_adapter_on_the_hub_is_checked_by_its_sketch_too(
    client: HubServer, family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    ftt_hub.publish(adapters[0], "me/one", version="1.0.0")
    model = load(family.stranger)
    with pytest.raises(IncompatibleError, match="unrelated"):
        model.load_adapter("me/one")
    assert differing(model, load(family.stranger)) == []
    model = load(family.target)
    model.load_adapter("me/one")
    assert differing(model, merged(adapters[0])) == []


def test_training_it_is_refused(family: TinyFamily, adapters: tuple[Path, Path]) -> None:
    from peft import PeftModel

    with pytest.raises(UnsupportedError, match="nothing to train"):
        PeftModel.from_pretrained(load(family.target), str(adapters[0]), is_trainable=True)
    with pytest.raises(UnsupportedError, match="nothing to train"):
        load(family.target).load_adapter(str(adapters[0]), is_trainable=True)


def test_saving_through_peft_is_refused_and_names_the_way(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    model = with_peft_model(load(family.target), adapters[0])
    with pytest.raises(UnsupportedError, match="ftt-hub pull"):
        model.save_pretrained(tmp_path / "out")
    assert not list((tmp_path / "out").glob("adapter*"))


def test_disabling_takes_delta_off_and_puts_it_back(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = with_peft_model(load(family.target), adapters[0])
    with model.disable_adapter():
        assert differing(model, load(family.target)) == []
    assert differing(model, merged(adapters[0])) == []


def test_adapters_are_switched_and_deleted_exactly(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    one, two = adapters
    model = with_peft_model(load(family.target), one)
    model.load_adapter(str(two), adapter_name="two")
    assert differing(model, merged(one)) == []
    model.set_adapter("two")
    assert differing(model, merged(two)) == []
    model.set_adapter("default")
    assert differing(model, merged(one)) == []
    model.delete_adapter("default")
    assert differing(model, load(family.target)) == []
    model.set_adapter("two")
    assert differing(model.merge_and_unload(), merged(two)) == []


def test_hot_swapping_is_refused(family: TinyFamily, adapters: tuple[Path, Path]) -> None:
    model = with_load_adapter(load(family.target), adapters[0])
    with pytest.raises((FttError, ValueError), match="hotswap"):
        model.load_adapter(str(adapters[1]), hotswap=True)
    assert differing(model, merged(adapters[0])) == []


def test_an_altered_manifest_is_refused(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    bad = damage(adapters[0], tmp_path / "bad", lambda state: None)
    value = json.loads((bad / "adapter_config.json").read_text())
    value["num_slots"] -= 1
    (bad / "adapter_config.json").write_text(json.dumps(value))
    with pytest.raises(IntegrityError, match="content digest"):
        load(family.target).load_adapter(str(bad))
