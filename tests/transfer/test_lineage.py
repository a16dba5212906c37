"""The sketch as an estimate: near the truth, honest about its chance, and clear about strangers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from models import TinyFamily, load_state

import ftt_hub
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.sketch import RunSums
from ftt_hub.tensors.dtypes import F32
from ftt_hub.transfer.lineage import judge

SIZE, RUN = 100_000, 200


@pytest.fixture(scope="module")
def adapter(
    family: TinyFamily, tmp_path_factory: pytest.TempPathFactory
) -> ftt_hub.TransferAdapter:
    return ftt_hub.extract(family.source, family.tuned, tmp_path_factory.mktemp("l") / "adapter")


def truth(source: Path, target: Path) -> tuple[float, float, float]:
    """Distance, cosine and sign agreement over all matrices."""
    ours, theirs = load_state(source), load_state(target)
    names = [name for name, tensor in ours.items() if tensor.dim() >= 2]
    a, b = (np.concatenate([s[n].double().numpy().ravel() for n in names]) for s in (ours, theirs))
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    return np.linalg.norm(b - a) / np.linalg.norm(a), cosine, np.mean(np.sign(a) == np.sign(b))


@pytest.mark.parametrize("name", ["target", "tuned", "stranger"])
def test_estimates_lie_within_5_percent_of_the_full_computation(
    adapter: ftt_hub.TransferAdapter, family: TinyFamily, name: str
) -> None:
    model = family.root / name
    found = adapter.verify(model, depth="sketch").lineage
    assert found is not None
    distance, cosine, signs = truth(family.source, model)
    assert found.overall.distance.value == pytest.approx(distance, rel=0.05)
    assert found.overall.cosine.low - 0.01 <= cosine <= found.overall.cosine.high + 0.01
    assert found.overall.sign_agreement.value == pytest.approx(signs, abs=0.05)


def test_the_source_base_itself_is_identical(
    adapter: ftt_hub.TransferAdapter, family: TinyFamily
) -> None:
    found = adapter.verify(family.source, depth="sketch").lineage
    assert found is not None
    assert found.verdict == "identical"
    assert found.overall.distance.value == 0
    assert found.overall.sign_agreement.value == 1


def test_a_stranger_of_the_same_shape_is_unrelated_and_rejected(
    adapter: ftt_hub.TransferAdapter, family: TinyFamily
) -> None:
    report = adapter.verify(family.stranger, depth="sketch")
    assert report.status == "rejected"
    assert report.lineage is not None
    assert report.lineage.verdict == "unrelated"
    assert report.lineage.overall.distance.value == pytest.approx(math.sqrt(2), rel=0.1)
    assert report.prediction is None


def _drawn(dice: np.random.Generator, names: list[str], spread: float) -> list[RunSums]:
    """Runs whose mean square differs from run to run, as rows of real matrices do."""
    found = []
    for name in names:
        for _ in range(20):
            ours = dice.normal(size=RUN)
            change = dice.normal(size=RUN) * 0.1 * math.exp(spread * dice.normal() - spread**2)
            theirs = ours + change
            found.append(
                RunSums(name, RUN, ours @ ours, theirs @ theirs, ours @ change, change @ change,
                        int((np.sign(ours) == np.sign(theirs)).sum()))
            )  # fmt: skip
    return found


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """E(change²) is 0.01 · E(exp(2s·z − 2s²)) = 0.01: the true distance is 0.1."""
    dice = np.random.default_rng(3)
    names = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(4)]
    entries = {n: TensorEntry(n, "delta", F32, (SIZE // 100, 100)) for n in names}
    hits = 0
    for _ in range(150):
        found = judge(_drawn(dice, names, 0.5), entries).lineage
        assert found is not None
        hits += found.overall.distance.low <= 0.1 <= found.overall.distance.high
    assert 0.87 <= hits / 150 <= 1.0


def test_the_size_of_a_kind_of_matrix_weighs_its_runs() -> None:
    """Two kinds, one ten times as large: the overall distance follows the large one."""
    dice = np.random.default_rng(4)

    def run(name: str, size: float) -> RunSums:
        ours = dice.normal(size=RUN)
        change = dice.normal(size=RUN) * size
        theirs = ours + change
        return RunSums(name, RUN, ours @ ours, theirs @ theirs, ours @ change, change @ change, RUN)

    runs = [run("layers.0.big", 0.01) for _ in range(8)] + [run("layers.0.small", 1.0)] * 8
    entries = {
        "layers.0.big": TensorEntry("layers.0.big", "delta", F32, (1000, 1000)),
        "layers.0.small": TensorEntry("layers.0.small", "delta", F32, (10, 10)),
    }
    found = judge(runs, entries).lineage
    assert found is not None
    assert found.overall.distance.value == pytest.approx(0.0141, rel=0.1)
    assert found.tensors["layers.0.small"].distance.value == pytest.approx(1.0, rel=0.15)


def test_one_run_alone_gives_no_estimate() -> None:
    assert judge([RunSums("a", 1, 1.0, 1.0, 0.0, 0.0, 1)], {}).lineage is None


def test_weights_that_are_not_finite_have_no_lineage() -> None:
    runs = [RunSums("a", 4, 1.0, math.nan, math.nan, math.nan, 0)] * 8
    found = judge(runs, {}).lineage
    assert found is not None
    assert found.verdict == "unknown"
    assert found.finding.status == "warned"
