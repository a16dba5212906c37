"""Choosing a codec by the loss it costs: `extract --text`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from models import TinyFamily

from ftt_hub.api.extract import extract
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.codecs.quantized import QuantizedCodec
from ftt_hub.errors import ExtractionError
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.identity import pair_facts
from ftt_hub.extraction.pairs import Side, pair_tensors
from ftt_hub.extraction.survey import survey
from ftt_hub.extraction.trials.draft import Draft
from ftt_hub.extraction.trials.trial import LossTrial


def held_out(folder: Path, words: int = 3000) -> Path:
    path = folder / "held_out.txt"
    path.write_text(" ".join(f"w{n * n % 91}" for n in range(words)))
    return path


def test_a_step_is_found_by_the_loss_it_costs(family: TinyFamily, tmp_path: Path) -> None:
    trial = LossTrial(held_out(tmp_path), family.target, 2e-3)
    adapter = extract(
        family.source, family.tuned, tmp_path / "a", codec=Coding("quantized"), trial=trial
    )
    assert trial.chosen is not None
    assert trial.chosen.increase.high <= 2e-3
    most = max(point.tokens for point in trial.points)
    within = [p for p in trial.points if p.tokens == most and p.increase.high <= 2e-3]
    assert trial.chosen.bits_per_weight == min(point.bits_per_weight for point in within)
    assert {point.rounding for point in trial.points} == {"nearest", "stochastic", "rotated"}
    assert adapter.config.codec.parameters["step"] == trial.chosen.step
    assert adapter.config.fidelity.bits_per_weight == trial.chosen.bits_per_weight
    assert adapter.config.fidelity.noise == trial.chosen.noise
    assert trial.divergence is not None
    assert trial.divergence >= 0


def test_candidates_are_written_nowhere_and_both_models_are_surveyed_once(
    family: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the output there is nothing while candidates are tried, and Ctrl-C leaves nothing."""
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(work))
    surveys, seen = [], []
    monkeypatch.setattr(
        "ftt_hub.extraction.choice.survey",
        lambda *a, **k: surveys.append(k) or survey(*a, **k),  # type: ignore[func-returns-value]
    )

    def stop(*arguments: object, **named: object) -> object:
        seen.append([path for path in (*out.iterdir(), *work.rglob("*")) if path.is_file()])
        raise KeyboardInterrupt

    trial = LossTrial(held_out(tmp_path), family.target)
    extract(family.source, family.tuned, out / "a", codec=Coding("auto", bits=1.0), trial=trial)
    assert len(surveys) == 1
    coding = Coding("auto", bits=1.0, rounding="nearest")
    monkeypatch.setattr("ftt_hub.extraction.trials.bench.divergence", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(family.source, family.tuned, out / "b", codec=coding, trial=trial)
    assert seen == [[]]
    assert [path.name for path in out.iterdir()] == ["a"]
    assert not list(work.iterdir())


def _differ(first: str, second: str) -> bool:
    return False


def test_a_draft_decodes_to_what_the_adapter_holds(family: TinyFamily, tmp_path: Path) -> None:
    adapter = extract(family.source, family.tuned, tmp_path / "a", codec=Coding("auto", bits=1.0))
    parameters = adapter.config.codec.parameters
    codec = QuantizedCodec(**parameters)  # type: ignore[arg-type]
    source, headers = open_model(family.source)
    tuned, others = open_model(family.tuned)
    facts = pair_facts(headers, others)
    sides = (Side(headers, facts.source, _differ), Side(others, facts.tuned, _differ))
    pairs = pair_tensors(*sides, facts)
    with source, tuned:
        draft = Draft(pairs, source, tuned, codec, "draft")
        for name, entry in adapter.opened.container.entries.items():
            for number in range(len(entry.blocks)):
                held = adapter.opened.container.decode(entry, number)
                assert draft.decode(draft.entries[name], number).equals(held)
        cost = draft.cost()
    assert cost.bits_per_weight == adapter.config.fidelity.bits_per_weight
    assert cost.noise == adapter.config.fidelity.noise


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


def test_of_a_long_text_a_sample_tells_which_roundings_are_worth_all_of_it(
    family: TinyFamily, tmp_path: Path
) -> None:
    trial = LossTrial(held_out(tmp_path, 9000), family.target, tokens=6000)
    coding = Coding("auto", bits=0.5)
    extract(family.source, family.tuned, tmp_path / "a", codec=coding, trial=trial)
    tokens = [point.tokens for point in trial.points]
    assert tokens[:3] == [min(tokens)] * 3
    assert 6000 <= max(tokens) < 7200
    assert max(tokens) / 4.5 < min(tokens) < max(tokens) / 3
    assert trial.chosen is not None
    assert trial.chosen.tokens == max(tokens)


def test_a_limit_that_no_step_keeps_is_an_error(
    family: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftt_hub.extraction.trials.search.LEAST_NOISE", 64.0)
    monkeypatch.setattr("ftt_hub.extraction.trials.search.MOST_NOISE", 64.0)
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
    assert all(kind in result.stdout for kind in ("stochastic", "rotated", "nearest"))
    assert "chosen" in result.stdout
    wrong = CliRunner().invoke(
        cli, [*arguments[:3], str(tmp_path / "b"), "--codec", "exact", *text]
    )
    assert wrong.exit_code == 1
    assert "nothing to try on a text" in str(wrong.exception)
