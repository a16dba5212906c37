"""Quantizing on load: Δ is added first, so that the result is quantize(merged)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import TinyFamily
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

import ftt_hub
from ftt_hub.errors import FttError, IncompatibleError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the quantizers themselves


@pytest.fixture(scope="module")
def folders(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Adapter, and the target merged on disk."""
    folder = tmp_path_factory.mktemp("quantized")
    adapter = ftt_hub.extract(family.source, family.tuned, folder / "a")
    adapter.apply(family.target, folder / "m")
    return folder / "a", folder / "m"


def _int8() -> Any:
    pytest.importorskip("torchao", reason="torchao is not installed: int8 is not tested")
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _int4() -> Any:
    pytest.importorskip("torchao", reason="torchao is not installed: int4 is not tested")
    from torchao.quantization import IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)))


def _bnb4() -> Any:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: not tested")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)


def _bnb8() -> Any:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: not tested")
    return BitsAndBytesConfig(load_in_8bit=True)


SCHEMES = {"torchao-int8": _int8, "torchao-int4": _int4, "bnb-4bit": _bnb4, "bnb-8bit": _bnb8}


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors a quantized one consists of."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in parts(getattr(tensor, name))]
    return [tensor.as_subclass(torch.Tensor)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_result_is_the_quantized_merged_model(
    family: TinyFamily, folders: tuple[Path, Path], scheme: str
) -> None:
    adapter, merged = folders
    options = {"quantization_config": SCHEMES[scheme](), "dtype": torch.bfloat16}
    model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target, **options
    )
    expected = AutoModelForCausalLM.from_pretrained(merged, **options)
    mine, theirs = dict(model.named_parameters()), dict(expected.named_parameters())
    assert mine.keys() == theirs.keys()
    for name in mine:
        pairs = zip(parts(mine[name]), parts(theirs[name]), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name
    kinds = {type(p).__name__ for p in mine.values()} | {str(p.dtype) for p in mine.values()}
    assert len(kinds) > 2, "nothing was quantized"
    if scheme == "bnb-4bit":
        return  # its CPU kernel cannot run matrices narrower than a block of 64
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, expected(tokens).logits)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_live_model_that_is_quantized_is_refused_with_the_way(
    family: TinyFamily, folders: tuple[Path, Path], scheme: str
) -> None:
    options = {"quantization_config": SCHEMES[scheme](), "dtype": torch.bfloat16}
    model = AutoModelForCausalLM.from_pretrained(family.target, **options)
    adapter = ftt_hub.TransferAdapter.from_pretrained(folders[0])
    with pytest.raises(FttError, match=r"quantization_config|quantized"):
        adapter.apply_to(model)
    with pytest.raises((UnsupportedError, IncompatibleError)):
        model.load_adapter(str(folders[0]))


def test_a_target_stored_quantized_is_refused_with_the_reason(
    new_family: Any, folders: tuple[Path, Path]
) -> None:
    target = new_family().target
    value = json.loads((target / "config.json").read_text())
    value["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (target / "config.json").write_text(json.dumps(value))
    with pytest.raises(IncompatibleError, match="stored quantized"):
        ftt_hub.AutoTransferModelForCausalLM.from_pretrained(folders[0], base_model=target)
