"""Choosing a codec by the loss it costs: `extract --text`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from models import TinyFamily

from ftt_hub.api import extract
from ftt_hub.errors import ExtractionError
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.trial import LossTrial


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bisection is enough to see the search turn round."""
    monkeypatch.setattr("ftt_hub.extraction.trial.BISECTIONS", 1)


def held_out(folder: Path) -> Path:
    path = folder / "held_out.txt"
    path.write_text(" ".join(f"w{n * n % 91}" for n in range(3000)))
    return path


def test_a_step_is_found_by_the_loss_it_costs(family: TinyFamily, tmp_path: Path) -> None:
    trial = LossTrial(held_out(tmp_path), family.target, 2e-3)
    adapter = extract(
        family.source, family.tuned, tmp_path / "a", codec=Coding("quantized"), trial=trial
    )
    assert trial.chosen is not None
    assert trial.chosen.increase.value <= 2e-3
    assert {point.rounding for point in trial.points} == {"nearest", "stochastic", "rotated"}
    assert adapter.config.codec.parameters["step"] == trial.chosen.step
    assert adapter.config.fidelity.bits_per_weight == trial.chosen.bits_per_weight
    within = [p.bits_per_weight for p in trial.points if p.increase.value <= 2e-3]
    assert trial.chosen.bits_per_weight == min(within)
    assert trial.divergence is not None
    assert trial.divergence >= 0
    assert not list(tmp_path.glob(".ftt-hub-trial-*"))


def test_with_a_text_the_better_rounding_at_a_size_is_taken(
    family: TinyFamily, tmp_path: Path
) -> None:
    trial = LossTrial(held_out(tmp_path))
    adapter = extract(
        family.source, family.tuned, tmp_path / "a", codec=Coding("auto", bits=2.0), trial=trial
    )
    assert len(trial.points) == 3
    best = min(trial.points, key=lambda point: point.loss.value)
    assert trial.chosen is best
    assert adapter.config.codec.parameters["rounding"] == best.rounding


def test_a_limit_that_no_step_keeps_is_an_error(
    family: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftt_hub.extraction.trial.FIRST_NOISE", 64.0)
    monkeypatch.setattr("ftt_hub.extraction.trial.LARGEST_NOISE", 64.0)
    trial = LossTrial(held_out(tmp_path), family.target, 1e-12)
    with pytest.raises(ExtractionError, match="no step keeps the loss within the limit"):
        extract(family.source, family.tuned, tmp_path / "a", codec="quantized", trial=trial)
    assert not (tmp_path / "a").exists()


def test_the_command_prints_the_curve(family: TinyFamily, tmp_path: Path) -> None:
    arguments = ["extract", str(family.source), str(family.tuned), str(tmp_path / "a")]
    limit = ["--max-loss-increase", "0.01"]
    result = CliRunner().invoke(cli, [*arguments, *limit])
    assert result.exit_code == 2
    assert "--text" in result.output
    text = ["--text", str(held_out(tmp_path)), "--target", str(family.target)]
    result = CliRunner().invoke(cli, [*arguments, *limit, *text], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.count("stochastic") >= 2
    assert "chosen" in result.stdout
    wrong = CliRunner().invoke(
        cli, [*arguments[:3], str(tmp_path / "b"), "--codec", "exact", *text]
    )
    assert wrong.exit_code == 1
    assert "nothing to try on a text" in str(wrong.exception)
