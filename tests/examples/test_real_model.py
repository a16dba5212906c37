"""The real thing: SmolLM2-135M, fine-tuned on Turkish and continued on English for some steps.

The weights come out of a package on the first run and stay in the user's cache (examples/demo).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from demo.materials import english_text, smollm2, turkish_text
from demo.training import Recipe, fine_tune
from models import random_state, same_bits, save_model
from safetensors import safe_open

import ftt_hub
from ftt_hub import AutoTransferModelForCausalLM
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.errors import ExtractionError, IncompatibleError


@dataclass(frozen=True)
class Real:
    source: Path
    tuned: Path
    target: Path
    adapter: Path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    source = smollm2()
    tuned = fine_tune("tests-tr", source, turkish_text(), Recipe(4, 1e-4), label="m'_s")
    target = fine_tune("tests-next", source, english_text(), Recipe(3, 5e-5), label="m_t")
    adapter = tmp_path_factory.mktemp("real") / "adapter"
    ftt_hub.extract(source, tuned, adapter)
    return Real(source, tuned, target, adapter)


def test_the_fine_tuned_model_comes_back_bit_for_bit(real: Real, tmp_path: Path) -> None:
    ftt_hub.apply(real.adapter, real.source, tmp_path / "back")
    with (
        safe_open(tmp_path / "back" / "model.safetensors", "pt") as ours,
        safe_open(real.tuned / "model.safetensors", "pt") as theirs,
    ):
        assert set(ours.keys()) == set(theirs.keys())
        for name in theirs.keys():  # noqa: SIM118 - a safetensors file is no mapping
            assert same_bits(ours.get_tensor(name), theirs.get_tensor(name)), name


def test_it_is_smaller_than_xor_and_zstd(real: Real) -> None:
    """At most 0.90 × BitX style (XOR, byte planes, zstd level 3), hi and lo together."""
    bitx = 0
    with Checkpoint(real.source) as source, Checkpoint(real.tuned) as tuned:
        for name, info in tuned.tensors.items():
            xor = source.read_bits(name, 0, info.count) ^ tuned.read_bits(name, 0, info.count)
            planes = xor.view(np.uint8).reshape(-1, 2).T.tobytes()
            bitx += len(zstandard.ZstdCompressor(level=3).compress(planes))
    stored = (real.adapter / "adapter_model.safetensors").stat().st_size
    assert stored <= 0.90 * bitx


def test_loading_gives_the_model_that_applying_writes(real: Real, tmp_path: Path) -> None:
    model = AutoTransferModelForCausalLM.from_pretrained(real.adapter, base_model=real.target)
    ftt_hub.apply(real.adapter, real.target, tmp_path / "merged")
    state = model.state_dict()
    with safe_open(tmp_path / "merged" / "model.safetensors", "pt") as merged:
        for name in merged.keys():  # noqa: SIM118
            assert torch.equal(state[name], merged.get_tensor(name)), name


def test_the_continued_version_is_accepted_and_a_stranger_refused(
    real: Real, tmp_path: Path
) -> None:
    report = ftt_hub.TransferAdapter.from_pretrained(real.adapter).verify(
        real.target, depth="sketch"
    )
    assert any(f.check == "sketch" and f.status == "accepted" for f in report.findings)
    stranger = save_model(tmp_path / "stranger", random_state(0))
    with pytest.raises(IncompatibleError):
        ftt_hub.apply(real.adapter, stranger, tmp_path / "out")


def test_the_same_model_twice_has_no_delta(real: Real, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="Δ is zero"):
        ftt_hub.extract(real.source, real.source, tmp_path / "zero")
