"""Every way to add Δ gives the same bits, however base, fine-tune and target are spelled."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from models import WORDS, same_bits, tokenizer
from safetensors.torch import load_file, save_file
from spelled_models import build

import ftt_hub
from ftt_hub.errors import ExtractionError

State = dict[str, torch.Tensor]

SPELLINGS = ("original", "run-time", "prefixed")
PREFIX = "_orig_mod."
MODELS = {
    "mixtral": ftt_hub.AutoTransferModelForCausalLM,
    "qwen2_vl": ftt_hub.AutoTransferModelForImageTextToText,
}


def moved(model: Any, seed: int) -> Any:
    """The model with noise on every weight."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((noise * 0.01).to(parameter.dtype))
    return model


def with_prefix(folder: Path, prefix: str, *, remove: bool = False) -> None:
    """Put a prefix before every name of a checkpoint, or take it away."""
    file = folder / "model.safetensors"
    state = load_file(file)
    renamed = {n.removeprefix(prefix) if remove else prefix + n: t for n, t in state.items()}
    save_file(renamed, file, {"format": "pt"})


class Family:
    """Source base, fine-tune and target of one architecture in every spelling."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        source = build(name)
        self.models = {"source": source, "tuned": moved(source, 1), "target": moved(source, 2)}
        self.paths = {
            (role, spelling): self._save(role, spelling)
            for role in self.models
            for spelling in SPELLINGS
        }

    def _save(self, role: str, spelling: str) -> Path:
        folder = self.root / f"{role}-{spelling}"
        self.models[role].save_pretrained(folder, save_original_format=spelling != "run-time")
        for name, data in tokenizer(WORDS[:40]).items():
            (folder / name).write_bytes(data)
        if spelling == "prefixed":
            with_prefix(folder, PREFIX)
        return folder

    def state(self, role: str) -> State:
        return dict(self.models[role].state_dict())

    def sum(self) -> State:
        """The correctly rounded t + (f − s); the values are such that float64 holds it exactly."""
        source, tuned, target = (self.state(role) for role in ("source", "tuned", "target"))
        return {
            name: (t.double() + (tuned[name].double() - source[name].double())).to(t.dtype)
            for name, t in target.items()
        }

    def loaded(self, folder: Path, spelling: str) -> State:
        """What transformers loads of a folder, but for a prefix that it does not know."""
        if spelling == "prefixed":
            with_prefix(folder, PREFIX, remove=True)
        model = type(self.models["source"]).from_pretrained(folder)
        return dict(model.state_dict())


@pytest.fixture(scope="module", params=MODELS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(request.param, tmp_path_factory.mktemp(request.param))


def wrong(found: State, expected: State) -> list[str]:
    return [n for n, tensor in expected.items() if not same_bits(found[n], tensor)]


@pytest.mark.parametrize(("source", "tuned"), list(itertools.product(SPELLINGS, SPELLINGS)))
def test_all_ways_give_the_same_bits_in_every_spelling(
    family: Family, source: str, tuned: str, tmp_path: Path
) -> None:
    paths, expected = family.paths, family.sum()
    adapter = ftt_hub.extract(paths["source", source], paths["tuned", tuned], tmp_path / "adapter")
    own = load_file(paths["source", source] / "model.safetensors")
    assert adapter.opened.container.entries.keys() == own.keys()
    for spelling in SPELLINGS:
        target = paths["target", spelling]
        ftt_hub.apply(adapter, target, tmp_path / spelling)
        result = load_file(tmp_path / spelling / "model.safetensors")
        assert result.keys() == load_file(target / "model.safetensors").keys()
        assert not wrong(family.loaded(tmp_path / spelling, spelling), expected)
        streamed = MODELS[family.name].from_pretrained(adapter.folder, base_model=target)
        assert not wrong(streamed.state_dict(), expected)
    home = ftt_hub.apply(adapter, paths["source", tuned], tmp_path / "home")
    assert not wrong(family.loaded(home.folder, tuned), family.state("tuned"))
    model = copy.deepcopy(family.models["target"])
    adapter.apply_to(model)
    assert not wrong(model.state_dict(), expected)
    adapter.remove_from(model)
    assert not wrong(model.state_dict(), family.state("target"))


def test_anchored_frames_decode_against_the_base_in_any_spelling(
    family: Family, tmp_path: Path
) -> None:
    adapter = ftt_hub.extract(
        family.paths["source", "original"], family.paths["tuned", "run-time"], tmp_path / "adapter",
        codec="anchored",
    )  # fmt: skip
    for spelling in SPELLINGS:
        out = tmp_path / spelling
        ftt_hub.apply(adapter, family.paths["source", spelling], out)
        assert not wrong(family.loaded(out, spelling), family.state("tuned"))
    ftt_hub.apply(
        adapter, family.paths["target", "run-time"], tmp_path / "target",
        source_base=family.paths["source", "run-time"],
    )  # fmt: skip
    assert not wrong(family.loaded(tmp_path / "target", "run-time"), family.sum())


def test_verify_says_which_spelling_each_side_uses(family: Family, tmp_path: Path) -> None:
    paths = family.paths
    folder = tmp_path / "adapter"
    ftt_hub.extract(paths["source", "original"], paths["tuned", "run-time"], folder)
    for depth in ("headers", "sketch", "weights"):
        verdict = ftt_hub.verify(folder, paths["target", "run-time"], depth=depth)
        names = [f.reason for f in verdict.findings if f.check == "names"]
        assert len(names) == 1
        assert "matched by the architecture" in names[0]
        assert verdict.status.name != "REJECTED"
    same = ftt_hub.verify(folder, paths["target", "original"], depth="headers")
    assert not [f for f in same.findings if f.check == "names"]


def test_the_manifest_records_the_spelling_of_the_fine_tune(family: Family, tmp_path: Path) -> None:
    paths = family.paths
    for spelling in ("original", "run-time"):
        adapter = ftt_hub.extract(
            paths["source", "original"], paths["tuned", spelling], tmp_path / spelling
        )
        recorded = adapter.config.differences.get("spelling")
        assert (recorded is None) == (spelling == "original")
        assert recorded is None or recorded["by_architecture"]


def test_adapters_of_differently_spelled_copies_of_one_base_are_combined(
    family: Family, tmp_path: Path
) -> None:
    paths, folders = family.paths, {}
    for source, tuned in (("original", "original"), ("run-time", "run-time")):
        folders[source] = tmp_path / source
        ftt_hub.extract(paths["source", source], paths["tuned", tuned], folders[source])
    alike = ftt_hub.combine(
        [(folders["original"], 0.5), (folders["original"], 0.25)], tmp_path / "a"
    )
    for first, second in (("original", "run-time"), ("run-time", "original")):
        out = tmp_path / f"{first}-{second}"
        ftt_hub.combine([(folders[first], 0.5), (folders[second], 0.25)], out)
        ftt_hub.apply(out, paths["target", "original"], tmp_path / f"{out.name}-model")
        ftt_hub.apply(alike.folder, paths["target", "original"], tmp_path / f"{out.name}-same")
        models = [
            family.loaded(tmp_path / f"{out.name}-{n}", "original") for n in ("model", "same")
        ]
        assert not wrong(*models)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_sparse_patch_changes_the_bases_own_tensors(
    family: Family, spelling: str, tmp_path: Path
) -> None:
    base = family.paths["source", spelling]
    adapter = ftt_hub.extract(
        family.paths["source", "original"], family.paths["tuned", "run-time"], tmp_path / "adapter"
    )
    ftt_hub.convert_to_sparse_patch(adapter, base, tmp_path / "patch.safetensors")
    state, patch = load_file(base / "model.safetensors"), load_file(tmp_path / "patch.safetensors")
    for name in [n.removesuffix(".idx") for n in patch if n.endswith(".idx")]:
        state[name].view(-1)[patch[f"{name}.idx"].long()] = patch[f"{name}.val"]
    patched = tmp_path / "patched"
    ftt_hub.apply(adapter, base, patched)
    assert not wrong(state, load_file(patched / "model.safetensors"))


def test_tensors_that_are_no_parameters_are_named(family: Family, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    family.models["tuned"].save_pretrained(tuned, save_original_format=False)
    state = load_file(tuned / "model.safetensors")
    state["value_head.weight"] = torch.zeros(1, 16, dtype=torch.bfloat16)
    save_file(state, tuned / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExtractionError, match=r"value_head\.weight"):
        ftt_hub.extract(family.paths["source", "original"], tuned, tmp_path / "adapter")
