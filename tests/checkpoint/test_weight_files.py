"""Which weight files of a folder count: always those that transformers loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import config
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.convert.whole import as_torch
from ftt_hub.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:.*is a pickle")

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
Model = LlamaForCausalLM


def make(seed: int) -> Model:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**config(tie_word_embeddings=False))).to(torch.bfloat16)


@pytest.fixture(scope="module")
def pair() -> tuple[Model, Model]:
    return make(1), make(2)


def shards(model: Model, folder: Path, prefix: str = "model") -> None:
    """Two safetensors shards and an index."""
    state = model.state_dict()
    names = sorted(state)
    halves = {f"{prefix}-1.safetensors": names[::2], f"{prefix}-2.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: state[n].contiguous() for n in part}, folder / file, {"format": "pt"})
    mapping = {name: file for file, part in halves.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": mapping}))


def single(model: Model, folder: Path, name: str = SINGLE) -> None:
    state = {n: t.contiguous() for n, t in model.state_dict().items()}
    save_file(state, folder / name, {"format": "pt"})


def pickled(model: Model, folder: Path, name: str = "pytorch_model.bin") -> None:
    torch.save(dict(model.state_dict()), folder / name)


def pickled_shards(model: Model, folder: Path) -> None:
    state = dict(model.state_dict())
    names = sorted(state)
    mapping = {n: f"pytorch_model-{1 + i % 2}.bin" for i, n in enumerate(names)}
    for file in set(mapping.values()):
        torch.save({n: state[n] for n in names if mapping[n] == file}, folder / file)
    index = {"metadata": {}, "weight_map": mapping}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def stale_index(model: Model, folder: Path) -> None:
    shards(model, folder)
    for shard in folder.glob("model-*.safetensors"):
        shard.unlink()


def overlapping(model: Model, folder: Path) -> None:
    """A shard that holds more than the index says of it: the last file of a name counts."""
    shards(model, folder)
    state = model.state_dict()
    more = {n: t.contiguous() + 1 for n, t in state.items()}
    save_file(more, folder / "model-2.safetensors", {"format": "pt"})


def explicit(model: Model, folder: Path) -> None:
    single(model, folder, "chosen.safetensors")
    value = json.loads((folder / "config.json").read_text())
    value["transformers_weights"] = "chosen.safetensors"
    (folder / "config.json").write_text(json.dumps(value))


LAYOUTS: dict[str, tuple[Callable[[Model, Path], None], ...]] = {
    "one file": (single,),
    "shards": (shards,),
    "one file beside shards": (shards, single),
    "one file beside a stale index": (stale_index, single),
    "one file beside a pickle": (pickled, single),
    "shards beside a pickle": (pickled, shards),
    "pickle": (pickled,),
    "pickled shards": (pickled_shards,),
    "pickle beside pickled shards": (pickled_shards, pickled),
    "shards that overlap": (overlapping,),
    "named by the config": (single, explicit),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weights_are_those_that_transformers_loads(
    layout: str, pair: tuple[Model, Model], tmp_path: Path
) -> None:
    pair[0].config.save_pretrained(tmp_path)
    for model, write in zip(pair, LAYOUTS[layout], strict=False):
        write(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").state_dict()
    with Checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors.keys() == loaded.keys()
        for name, info in checkpoint.tensors.items():
            value = as_torch(checkpoint.read_bits(name, 0, info.count), info.dtype, info.shape)
            assert torch.equal(value, loaded[name]), name


def test_a_tensor_that_only_the_index_names_is_an_error(
    pair: tuple[Model, Model], tmp_path: Path
) -> None:
    shards(pair[0], tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["model.lost.weight"] = "model-1.safetensors"
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.lost\.weight.*random values"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/x.safetensors", "a\\b", "", ".x", "c:x"])
def test_an_index_cannot_lead_out_of_the_folder(shard: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(CheckpointError, match="impossible file"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../x.safetensors", "x.bin", 3])
def test_a_config_cannot_name_weights_outside_the_folder(name: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"transformers_weights": name}))
    with pytest.raises(CheckpointError, match="transformers_weights names the impossible file"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"m-Q4.gguf": ""}, "found GGUF files.*were made from"),
        ({"tf_model.h5": ""}, "TensorFlow, Flax"),
        ({"flax_model.msgpack": ""}, "TensorFlow, Flax"),
        ({"model.onnx": ""}, "ONNX"),
        ({"consolidated.00.pth": "", "params.json": "{}"}, "author's own format"),
        ({"model.fp16.safetensors": ""}, r"found model\.fp16\.safetensors.*Rename"),
        ({"model_index.json": "{}"}, "diffusers pipeline"),
        ({"adapter_config.json": '{"peft_type": "LORA"}'}, r"PEFT adapter \(LORA\).*from-peft"),
        ({"adapter_config.json": '{"peft_type": "TRANSFER"}'}, "found a transfer adapter.*apply"),
        ({"adapter_config.json": "broken"}, "PEFT adapter"),
        ({}, r"found no weights\. Is this a saved model"),
    ],
)
def test_a_folder_without_weights_is_refused_with_what_it_holds_instead(
    files: dict[str, str], reason: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=reason):
        open_model(tmp_path)


def test_a_missing_config_is_told_as_such(pair: tuple[Model, Model], tmp_path: Path) -> None:
    single(pair[0], tmp_path)
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_model(tmp_path)
    shutil.rmtree(tmp_path)
