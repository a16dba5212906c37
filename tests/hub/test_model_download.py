"""A model from the Hub: what transformers would fetch is fetched, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hub_fixtures import client, server
from hub_server import HubServer
from models import TinyFamily, load_state, random_state, same_bits, save_model
from safetensors.torch import load_file

import ftt_hub
from ftt_hub import hub
from ftt_hub.checkpoint.resolve import open_model, read_headers
from ftt_hub.errors import CheckpointError

__all__ = ["client", "server"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*pickle"),
]

BIG = b"\0" * 4096
NEEDED = {
    "additional_chat_templates/rag.jinja": b"rag",
    "preprocessor_config.json": b"{}",
    "modeling_x.py": b"# code",
    "LICENSE": b"free",
    "source.spm": b"spm",
}
NOT_NEEDED = {
    "original/consolidated.00.pth": BIG,
    "original/model.safetensors": BIG,
    "consolidated.safetensors": BIG,
    "pytorch_model.bin": BIG,
    "pytorch_model.bin.index.json": b"{}",
    "model.gguf": BIG,
    "onnx/model.onnx": BIG,
    "optimizer.pt": BIG,
    "trainer_state.json": b"{}",
    "README.md": b"# card",
    "figure.png": BIG,
}


def seed(server: HubServer, name: str, folder: Path, extra: dict[str, bytes]) -> str:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return server.commit(name, {**files, **extra})


def fetched(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("shards", [1, 2])
def test_only_what_transformers_loads_is_fetched(
    shards: int, client: HubServer, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "m", random_state(0), shards=shards)
    commit = seed(client, "org/m", model, {**NEEDED, **NOT_NEEDED})
    folder = hub.download_model("org/m", commit)
    assert fetched(folder) == {path.name for path in model.iterdir()} | NEEDED.keys()


def test_one_file_wins_over_an_index_and_its_shards(client: HubServer, tmp_path: Path) -> None:
    shards = save_model(tmp_path / "shards", random_state(1), shards=2)
    single = save_model(tmp_path / "single", random_state(2))
    extra = {path.name: path.read_bytes() for path in shards.glob("model*")}
    commit = seed(client, "org/both", single, extra)
    folder = hub.download_model("org/both", commit)
    assert [p.name for p in sorted(folder.glob("model*"))] == ["model.safetensors"]
    assert read_headers("org/both").tensors == read_headers(single).tensors


def test_a_model_is_read_again_without_a_request(
    client: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = seed(client, "org/m", save_model(tmp_path / "m", random_state(0)), NOT_NEEDED)
    folder = hub.download_model("org/m", commit)
    client.requests.clear()
    assert hub.download_model("org/m", commit) == folder
    assert len(client.requests) == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.download_model("org/m", commit) == folder


def pickled(family: TinyFamily, folder: Path, *, shards: int) -> Path:
    """The source base as `pytorch_model.bin`, in one or more files."""
    state = load_file(family.source / "model.safetensors")
    folder.mkdir()
    for path in family.source.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    mapping = {name: f"pytorch_model-{i % shards}.bin" for i, name in enumerate(state)}
    for file in set(mapping.values()):
        part = {name: state[name].clone() for name in state if mapping[name] == file}
        torch.save(part, folder / file)
    index = {"metadata": {}, "weight_map": mapping}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("shards", [1, 2])
def test_a_repository_with_pickled_weights_works_on_every_side(
    shards: int, client: HubServer, family: TinyFamily, tmp_path: Path
) -> None:
    seed(client, "org/bin", pickled(family, tmp_path / "bin", shards=shards), {"model.gguf": BIG})
    ftt_hub.extract("org/bin", family.tuned, tmp_path / "a")
    for depth in ("headers", "sketch"):
        assert ftt_hub.verify(tmp_path / "a", "org/bin", depth=depth).status != "rejected"
    ftt_hub.apply(tmp_path / "a", "org/bin", tmp_path / "out")
    result, tuned = load_state(tmp_path / "out"), load_state(family.tuned)
    assert all(same_bits(result[name], value) for name, value in tuned.items())


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"m-Q4.gguf": BIG}, "GGUF"),
        ({"adapter_config.json": b'{"peft_type": "LORA"}'}, "from-peft"),
        ({"consolidated.00.pth": BIG}, "author's own format"),
    ],
)
def test_a_repository_that_is_no_model_says_what_it_is(
    files: dict[str, bytes], reason: str, client: HubServer
) -> None:
    client.commit("org/other", files)
    for read in (read_headers, open_model):
        with pytest.raises(CheckpointError, match=reason):
            read("org/other")


def test_an_index_on_the_hub_cannot_lead_out_of_the_cache(
    client: HubServer, family: TinyFamily
) -> None:
    index = json.dumps({"weight_map": {"w": "../../x.safetensors"}}).encode()
    config = (family.source / "config.json").read_bytes()
    files = {"config.json": config, "model.safetensors.index.json": index}
    commit = client.commit("org/evil", files)
    with pytest.raises(CheckpointError, match="impossible file"):
        hub.download_model("org/evil", commit)
