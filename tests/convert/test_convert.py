"""From transfer adapters to LoRA, sparse patches and channel signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TinyFamily, load_state, same_bits
from safetensors import safe_open
from safetensors.torch import load_file

import ftt_hub
from ftt_hub.convert.low_rank import Goal, _krylov, factorize
from ftt_hub.errors import FttError, OutputError

_LOAD = """
import sys, warnings
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ftt_hub":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
merged = PeftModel.from_pretrained(base, sys.argv[2]).merge_and_unload()
torch.save({k: v.clone() for k, v in merged.state_dict().items()}, sys.argv[3])
assert "ftt_hub" not in sys.modules
"""


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("convert") / "a"
    ftt_hub.extract(family.source, family.tuned, out).close()
    return out


def in_plain_peft(base: Path, lora: Path, out: Path) -> dict[str, torch.Tensor]:
    words = [sys.executable, "-c", _LOAD, base, lora, out]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    state: dict[str, torch.Tensor] = torch.load(out, weights_only=True)
    return state


def error(found: torch.Tensor, tuned: torch.Tensor, source: torch.Tensor) -> float:
    a, b, c = (t.double() for t in (found, tuned, source))
    return float((a - b).norm() / (b - c).norm())


def test_lora_of_full_rank_with_saved_modules_is_the_fine_tuned_model_in_plain_peft(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    report = ftt_hub.convert_to_lora(
        adapter,
        tmp_path / "lora",
        rank=64,
        modules_to_save=True,
        base=family.source,
        dtype="float32",
    )
    assert report.error < 1e-3
    assert all(item.saved for item in report.left_out)
    found = in_plain_peft(family.source, tmp_path / "lora", tmp_path / "state.pt")
    source, tuned = load_state(family.source), load_state(family.tuned)
    for item in report.left_out:
        assert same_bits(found[item.name], tuned[item.name]), item.name
    for name in tuned:
        assert error(found[name], tuned[name], source[name]) < 0.02, name


def test_the_reported_error_is_what_peft_gets(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    report = ftt_hub.convert_to_lora(adapter, tmp_path / "lora", max_error=0.5)
    assert all(m.error <= 0.5 for m in report.modules)
    assert len({m.rank for m in report.modules}) > 1
    assert report.left_out
    assert report.total_error > report.error
    found = in_plain_peft(family.source, tmp_path / "lora", tmp_path / "state.pt")
    source, tuned = load_state(family.source), load_state(family.tuned)
    for module in report.modules:
        name = f"{module.module}.weight"
        got = error(found[name], tuned[name], source[name])
        assert got == pytest.approx(module.error, abs=0.03)


def test_ranks_meet_energy_and_no_more() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(40, 12) @ torch.randn(12, 60)
    values = torch.linalg.svdvals(matrix).double().square()
    for energy in (0.3, 0.9, 0.99):
        factors = factorize(matrix, Goal(energy=energy))
        needed = 1 + int((values.cumsum(0) < energy * values.sum()).sum())
        assert factors.rank == needed
        assert 1 - factors.residual / factors.square >= energy - 1e-6
    exact = float((values[5:].sum() / values.sum()).sqrt())
    five = factorize(matrix.T, Goal(rank=5))
    assert five.error == pytest.approx(exact, rel=1e-4)
    seen = (five.left @ five.right - matrix.T).norm() / matrix.norm()
    assert float(seen) == pytest.approx(exact, rel=1e-4)


def test_the_random_range_finder_is_close_to_the_best_even_on_a_flat_spectrum() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(300, 400)
    basis, _ = _krylov(matrix, 40, 0)
    captured = float((basis[:, :24].T @ matrix).square().sum())
    best = float(torch.linalg.svdvals(matrix)[:24].square().sum())
    assert captured > 0.99 * best


@pytest.mark.parametrize(
    "goal", [{}, {"rank": 0}, {"energy": 1.5}, {"rank": 2, "error": 0.1}, {"error": float("nan")}]
)
def test_a_goal_that_makes_no_sense_is_refused(goal: dict[str, float]) -> None:
    with pytest.raises(FttError):
        Goal(**goal)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["raw", "gap_delta"])
def test_base_and_patch_are_the_fine_tuned_model_bit_for_bit(
    family: TinyFamily, adapter: Path, tmp_path: Path, encoding: str
) -> None:
    out = tmp_path / "patch.safetensors"
    report = ftt_hub.convert_to_sparse_patch(adapter, family.source, out, encoding=encoding)
    source, tuned, patch = load_state(family.source), load_state(family.tuned), load_file(out)
    with safe_open(out, "pt") as file:
        facts = file.metadata()
    assert (facts["format"], facts["sparse"], facts["encoding"]) == (
        "sparse_weight_patch",
        "True",
        encoding,
    )
    shapes = json.loads(facts["shapes"])
    for name, value in source.items():
        flat = value.flatten().clone()
        if f"{name}.idx" in patch:
            assert shapes[name] == list(value.shape)
            index = patch[f"{name}.idx"].long()
            if encoding == "gap_delta":
                index = torch.cumsum(index + 1, 0) - 1
            flat[index] = patch[f"{name}.val"]
        assert same_bits(flat.reshape(value.shape), tuned[name]), name
    assert report.changed == sum(len(t) for n, t in patch.items() if n.endswith(".val"))


def test_an_output_file_that_exists_is_not_touched(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "held"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        ftt_hub.convert_to_sparse_patch(adapter, family.source, out)
    with pytest.raises(OutputError, match="exists"):
        ftt_hub.export_channels(adapter, out)
    assert out.read_text() == "mine"


def test_channel_signals_follow_the_formula(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    report = ftt_hub.export_channels(adapter, tmp_path / "c.safetensors")
    found = load_file(tmp_path / "c.safetensors")
    source, tuned = load_state(family.source), load_state(family.tuned)
    changes = {
        n: (tuned[n].float() - source[n].float()).abs()
        for n in source
        if source[n].ndim == 2 and ".layers." in n
    }
    assert report.matrices == len(changes)
    positive = torch.cat([x[x > 0] for x in changes.values()]).sort().values.double()
    low, high = positive[0], positive[-1]
    middle = (positive[(len(positive) - 1) // 2] + positive[len(positive) // 2]) / 2
    for name, change in changes.items():
        x = change.double()
        z = torch.where(x <= middle, (middle - x) / (middle - low), (x - middle) / (high - middle))
        f = torch.where(x == 0, 1.0, 1 + 9 * z**2)
        zeros = (x == 0).sum(0)
        assert torch.equal(found[f"{name}.input_zeros"].long(), zeros)
        assert torch.equal(found[f"{name}.output_zeros"].long(), (x == 0).sum(1))
        expected = {
            "input_mean_abs": x.mean(0),
            "output_mean_abs": x.mean(1),
            "input_importance": f.mean(0) * (zeros + 1),
        }
        for key, value in expected.items():
            np.testing.assert_allclose(found[f"{name}.{key}"], value.float(), rtol=1e-5)
