"""Verdicts on real weights: SmolLM2-135M, its continued version, and strangers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from demo.materials import english_text, smollm2, split, turkish_text
from demo.training import Recipe, fine_tune
from hub_fixtures import client, server
from hub_server import HubServer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import ftt_hub
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.loss import measure
from ftt_hub.tensors.rounding import widen
from ftt_hub.verdict.options import TextOptions
from ftt_hub.verdict.report import Verdict

__all__ = ["client", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TURKISH = Recipe(4, 1e-4)


@dataclass(frozen=True)
class Real:
    source: Path
    target: Path
    adapter: ftt_hub.TransferAdapter


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    source = smollm2()
    tuned = fine_tune("tests-tr", source, turkish_text(), TURKISH, label="m'_s")
    target = fine_tune("tests-next", source, english_text(), Recipe(3, 5e-5), label="m_t")
    folder = tmp_path_factory.mktemp("real") / "adapter"
    return Real(source, target, ftt_hub.extract(source, tuned, folder))


def distance(source: Path, target: Path) -> float:
    """‖m_t − m_s‖ / ‖m_s‖ over all matrices, in full."""
    moved = square = 0.0
    with Checkpoint(source) as first, Checkpoint(target) as second:
        for name, info in first.tensors.items():
            if len(info.shape) < 2:
                continue
            a = widen(first.read_bits(name, 0, info.count), info.dtype)
            b = widen(second.read_bits(name, 0, info.count), info.dtype)
            moved += float(np.square(b - a, dtype=np.float64).sum())
            square += float(np.square(a, dtype=np.float64).sum())
    return float(np.sqrt(moved / square))


def test_the_sketch_is_within_5_percent_of_the_full_computation(real: Real) -> None:
    found = real.adapter.verify(real.target, depth="sketch").lineage
    assert found is not None
    assert found.verdict == "same lineage"
    truth = distance(real.source, real.target)
    assert found.overall.distance.value == pytest.approx(truth, rel=0.05)
    assert found.overall.distance.low <= truth <= found.overall.distance.high


def test_the_sketch_reads_a_thousandth_of_the_target_in_300_requests(
    client: HubServer, real: Real
) -> None:
    files = {p.name: p.read_bytes() for p in real.target.iterdir() if p.is_file()}
    client.commit("org/next", files)
    client.requests.clear()
    report = ftt_hub.verify(real.adapter.folder, "org/next", depth="sketch")
    assert isinstance(report, Verdict)
    assert report.lineage is not None
    assert report.lineage.overall.runs == 256
    assert len(client.requests) <= 300
    weights = client.requests.where("GET", r"model\.safetensors")
    assert all(request.range for request in weights)
    read = sum(request.sent for request in weights)
    assert read <= 0.001 * len(files["model.safetensors"])


@pytest.mark.slow
def test_a_random_model_of_the_same_shape_is_rejected(real: Real, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(real.source)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(real.source).save_pretrained(tmp_path)
    report = real.adapter.verify(tmp_path, depth="sketch")
    assert report.status == "rejected"
    assert "unrelated to the source base" in report.verdict


@pytest.mark.slow
def test_a_model_with_another_vocabulary_is_rejected_or_aligned(real: Real, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(real.source)
    config.vocab_size -= 152
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    report = real.adapter.verify(tmp_path)
    assert report.status == "rejected"
    assert "rows" in report.verdict


@pytest.mark.slow
def test_the_continued_version_recovers_what_was_predicted(real: Real, tmp_path: Path) -> None:
    """The share predicted without fine-tuning m_t holds the share measured with it."""
    text = tmp_path / "tr.txt"
    text.write_text(split(turkish_text())[1], encoding="utf-8")
    options = TextOptions(text, 512, 64, (1.0,))
    verdict = real.adapter.verify(real.target, depth="loss", text=options, source_base=real.source)
    assert verdict.status != "rejected"
    assert verdict.loss is not None
    assert verdict.prediction is not None
    tuned = fine_tune("tests-next-tr", real.target, turkish_text(), TURKISH, label="FT(m_t)")
    model = AutoModelForCausalLM.from_pretrained(tuned, dtype="auto")
    losses = verdict.loss.curve.losses
    best = losses[0.0].mean - measure(model, verdict.loss.text).mean
    recovered = (losses[0.0].mean - losses[1.0].mean) / best
    share = verdict.prediction.share
    assert share.low <= recovered <= share.high, (recovered, share)


_PEAK = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM, AutoTokenizer
import ftt_hub
from ftt_hub.loss import measure, read_text
from ftt_hub.verdict.options import TextOptions
kind, source, target, adapter, text = sys.argv[1:]
if kind == "verdict":
    ftt_hub.verify(adapter, target, depth="loss", source_base=source,
                   text=TextOptions(text, 128, 64, (1.0,)))
else:
    tokenizer = AutoTokenizer.from_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(target, dtype="auto")
    measure(model, read_text(text, tokenizer, tokens=128, window=64))
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_memory_of_the_loss_depth_is_that_of_one_model_and_some_tensors(
    real: Real, tmp_path: Path
) -> None:
    """Two more models would be 540 MB; the largest tensor, as float64 in some copies, is 400."""
    text = tmp_path / "tr.txt"
    text.write_text(split(turkish_text())[1][:3000], encoding="utf-8")
    paths = [real.source, real.target, real.adapter.folder, text]

    def peak(kind: str) -> int:
        words = [sys.executable, "-W", "ignore", "-c", _PEAK, kind, *map(str, paths)]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    assert peak("verdict") - peak("one model") < 450
