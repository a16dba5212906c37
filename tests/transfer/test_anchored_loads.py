"""Anchored adapters load wherever others do, once their source base is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from models import TinyFamily, load_state, same_bits

import ftt_hub
from ftt_hub import AutoTransferModelForCausalLM
from ftt_hub.errors import IncompatibleError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An anchored adapter, and the same Δ merged into the target on disk."""
    folder = tmp_path_factory.mktemp("anchored")
    ftt_hub.extract(family.source, family.tuned, folder / "a", codec="anchored")
    ftt_hub.apply(folder / "a", family.target, folder / "merged", source_base=family.source)
    return folder / "a"


def wrong(model: Any, folder: Path) -> list[str]:
    """Names of tensors that are not those of a checkpoint folder."""
    state = model.state_dict()
    return [n for n, t in load_state(folder).items() if not same_bits(state[n], t)]


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def test_on_its_source_base_nothing_else_has_to_be_named(family: TinyFamily, adapter: Path) -> None:
    model = AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=family.source)
    assert wrong(model, family.tuned) == []


def test_on_another_target_the_source_base_is_named(family: TinyFamily, adapter: Path) -> None:
    model = AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target, source_base=family.source
    )
    assert wrong(model, adapter.parent / "merged") == []


@pytest.mark.parametrize("named", [None, "stranger"])
def test_a_model_that_is_not_the_source_base_is_told_by_its_hash(
    family: TinyFamily, adapter: Path, named: str | None
) -> None:
    source = None if named is None else family.root / named
    with pytest.raises(IncompatibleError, match=r"is not the source base.*source_base= in Python"):
        AutoTransferModelForCausalLM.from_pretrained(
            adapter, base_model=family.target, source_base=source
        )


def test_a_live_model_takes_it_rescales_it_and_gives_it_back(
    family: TinyFamily, adapter: Path
) -> None:
    opened, model = ftt_hub.TransferAdapter.from_pretrained(adapter), load(family.target)
    opened.apply_to(model, source_base=family.source, scale=0.5)
    opened.set_scale(model, 1.0)
    assert wrong(model, adapter.parent / "merged") == []
    opened.remove_from(model)
    assert wrong(model, family.target) == []
    with opened.applied(model, source_base=family.source):
        assert wrong(model, adapter.parent / "merged") == []
    assert wrong(model, family.target) == []


def test_a_live_model_stays_as_it_was_where_the_source_base_is_another_or_none(
    family: TinyFamily, adapter: Path
) -> None:
    opened, model = ftt_hub.TransferAdapter.from_pretrained(adapter), load(family.target)
    with pytest.raises(UnsupportedError, match="source_base="):
        opened.apply_to(model)
    with pytest.raises(IncompatibleError, match="is not the source base"):
        opened.apply_to(model, source_base=family.stranger)
    assert wrong(model, family.target) == []


def test_the_loaders_of_peft_and_transformers_name_the_way_that_works(
    family: TinyFamily, adapter: Path
) -> None:
    from peft import PeftModel

    model = load(family.target)
    with pytest.raises(UnsupportedError, match=r"source_base=… of apply_to or .*AutoTransferModel"):
        model.load_adapter(str(adapter))
    with pytest.raises(UnsupportedError, match=r"source_base=… of apply_to or .*AutoTransferModel"):
        PeftModel.from_pretrained(model, str(adapter))
    assert wrong(model, family.target) == []
    assert torch.isfinite(model(torch.tensor([[1, 2]])).logits).all()
