"""Every call of a PeftModel with transfer adapters is right, or names the way that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from models import TinyFamily, config, drifted, load_state, random_state, same_bits, save_model

import ftt_hub
from ftt_hub.errors import AlreadyAppliedError, FttError, IncompatibleError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture(scope="module")
def adapters(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of one source base."""
    folder = tmp_path_factory.mktemp("matrix")
    other = save_model(folder / "other", drifted(random_state(0), 5, 0.02))
    ftt_hub.extract(family.source, family.tuned, folder / "one")
    ftt_hub.extract(family.source, other, folder / "two")
    return folder / "one", folder / "two"


def load(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **options)


def peft(model: Any, adapter: Path, **options: Any) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), **options)


def wrong(model: Any, expected: Any) -> list[str]:
    """Names of parameters that differ from those of a plain model."""
    mine = {n.removeprefix("base_model.model."): t for n, t in model.state_dict().items()}
    theirs = expected.state_dict()
    assert set(theirs) <= set(mine)
    return [n for n, t in theirs.items() if not same_bits(mine[n], t)]


def sum_of(family: TinyFamily, *adapters: Path) -> Any:
    model = load(family.target)
    for adapter in adapters:
        ftt_hub.TransferAdapter.from_pretrained(adapter).apply_to(model)
    return model


def test_the_same_adapter_under_another_name_is_refused_and_changes_nothing(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = peft(load(family.target), adapters[0])
    with pytest.raises(AlreadyAppliedError, match=r"it is 'default'. Use set_adapter"):
        model.load_adapter(str(adapters[0]), adapter_name="again")
    assert wrong(model, sum_of(family, adapters[0])) == []
    model.load_adapter(str(adapters[1]), adapter_name="two")
    model.set_adapter("two")
    assert wrong(model, sum_of(family, adapters[1])) == []


def test_two_active_adapters_are_both_in_the_weights(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = peft(load(family.target), adapters[0])
    model.load_adapter(str(adapters[1]), adapter_name="two")
    model.base_model.set_adapter(["default", "two"])
    assert wrong(model, sum_of(family, *adapters)) == []
    with model.disable_adapter():
        assert wrong(model, load(family.target)) == []
    assert wrong(model.merge_and_unload(), sum_of(family, *adapters)) == []


def test_a_merged_model_takes_the_next_adapter(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = peft(load(family.target), adapters[0]).merge_and_unload()
    with pytest.raises(AlreadyAppliedError, match="added twice"):
        peft(model, adapters[0])
    model = peft(model, adapters[1]).merge_and_unload()
    assert wrong(model, sum_of(family, *adapters)) == []


def test_a_second_adapter_cannot_be_trained_either(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = peft(load(family.target), adapters[0])
    with pytest.raises(UnsupportedError, match="nothing to train"):
        model.load_adapter(str(adapters[1]), adapter_name="two", is_trainable=True)
    assert wrong(model, sum_of(family, adapters[0])) == []


def test_pefts_own_hot_swapping_is_refused(family: TinyFamily, adapters: tuple[Path, Path]) -> None:
    from peft.utils.hotswap import hotswap_adapter

    model = peft(load(family.target), adapters[0])
    with pytest.raises((FttError, ValueError, NotImplementedError), match=r"swap|LORA|TRANSFER"):
        hotswap_adapter(model, str(adapters[1]), adapter_name="default")
    assert wrong(model, sum_of(family, adapters[0])) == []


def test_deleting_by_a_wrong_name_changes_nothing(
    family: TinyFamily, adapters: tuple[Path, Path]
) -> None:
    model = peft(load(family.target), adapters[0])
    with pytest.raises((FttError, ValueError), match="none-such"):
        model.delete_adapter("none-such")
    assert wrong(model, sum_of(family, adapters[0])) == []


@pytest.mark.parametrize("way", ["load_adapter", "PeftModel", "apply_to"])
def test_a_delta_for_a_head_that_the_target_ties_is_refused(tmp_path: Path, way: str) -> None:
    separate, tied = random_state(0, tied=False), random_state(0)
    settings = config(tie_word_embeddings=False)
    source = save_model(tmp_path / "s", separate, settings)
    tuned = save_model(tmp_path / "f", drifted(separate, 1, 0.01), settings)
    target = save_model(tmp_path / "t", tied)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    model = load(target)
    with pytest.raises(UnsupportedError, match="which are one parameter of the model"):
        use(way, model, adapter)
    assert wrong(model, load(target)) == []


def use(way: str, model: Any, adapter: ftt_hub.TransferAdapter) -> None:
    if way == "load_adapter":
        model.load_adapter(str(adapter.folder))
    elif way == "PeftModel":
        peft(model, adapter.folder)
    else:
        adapter.apply_to(model)


@pytest.mark.parametrize("way", ["load_adapter", "PeftModel", "apply_to"])
@pytest.mark.parametrize("places", ["auto", {"": "cpu"}], ids=str)
def test_a_dispatched_model_that_lies_in_memory_is_right(
    family: TinyFamily, adapters: tuple[Path, Path], way: str, places: Any
) -> None:
    pytest.importorskip("accelerate")
    model = load(family.target, device_map=places)
    expected = sum_of(family, adapters[0])
    use(way, model, ftt_hub.TransferAdapter.from_pretrained(adapters[0]))
    assert wrong(model, expected) == []
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, expected(tokens).logits)


@pytest.mark.parametrize("way", ["load_adapter", "PeftModel", "apply_to"])
@pytest.mark.filterwarnings("ignore:Current model requires")
def test_an_offloaded_model_is_refused_with_the_way_that_works(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path, way: str
) -> None:
    pytest.importorskip("accelerate")
    names = ("model.embed_tokens", "lm_head", "model.layers.0", "model.norm", "model.rotary_emb")
    places = {**dict.fromkeys(names, "cpu"), "model.layers.1": "disk"}
    model = load(family.target, device_map=places, offload_folder=tmp_path / "offload")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        before = model(tokens).logits
    with pytest.raises(UnsupportedError, match=r"AutoTransferModel….*device_map="):
        use(way, model, ftt_hub.TransferAdapter.from_pretrained(adapters[0]))
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize("way", ["load_adapter", "PeftModel", "apply_to"])
@pytest.mark.filterwarnings("ignore")  # of bitsandbytes itself
def test_a_four_bit_model_is_refused_with_the_way_that_works(
    family: TinyFamily, adapters: tuple[Path, Path], way: str
) -> None:
    pytest.importorskip("bitsandbytes")
    four = transformers.BitsAndBytesConfig(load_in_4bit=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        family.target, quantization_config=four
    )
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises((UnsupportedError, IncompatibleError), match=r"quantiz"):
        use(way, model, ftt_hub.TransferAdapter.from_pretrained(adapters[0]))
    after = model.state_dict()
    assert all(torch.equal(after[name], t) for name, t in before.items())


def test_the_whole_model_saved_from_under_a_peft_model_is_the_merged_one(
    family: TinyFamily, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    peft(load(family.target), adapters[0]).merge_and_unload().save_pretrained(tmp_path / "saved")
    ftt_hub.apply(adapters[0], family.target, tmp_path / "merged")
    saved, merged = load_state(tmp_path / "saved"), load_state(tmp_path / "merged")
    assert all(same_bits(saved[n], t) for n, t in merged.items())
