"""The controlled study: the same code as `make study-small` on a micro configuration."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

if find_spec("reasoning_gym") is None:  # looked for and not imported: that takes two seconds
    pytest.skip("the extra `study` is not installed", allow_module_level=True)

from controlled_study import family as families
from controlled_study.cache import Cache
from controlled_study.figures import draw
from controlled_study.findings import NOT, REPRODUCED, UNSEEN, findings, judge, outcomes
from controlled_study.intervals import Interval
from controlled_study.numbers import Numbers
from controlled_study.page import BLOCKS, read_results, renew, shown
from controlled_study.run import main
from controlled_study.settings import StudyError, read_settings
from controlled_study.study import plan, run_study
from controlled_study.tasks import equations, held_out, training, unseen
from controlled_study.tuning import steps_to_do

STUDY = Path(__file__).parents[2] / "examples" / "controlled_study"
DOCS = STUDY.parents[1] / "docs"
RESULTS = STUDY / "results" / "small.json"
CONFIGS = ("small", "gpu")


def micro(folder: Path, **changes: Any) -> Path:
    """The small study's configuration, shrunk to seconds."""
    value = yaml.safe_load((STUDY / "small.yaml").read_text("utf-8"))
    value.update(
        name="micro",
        seeds=[1],
        workers=1,
        model={
            "vocabulary": 300,
            "hidden_size": 16,
            "intermediate_size": 16,
            "layers": 1,
            "heads": 2,
        },
        fine_tuning={"steps": 4, "learning_rate": "1e-3", "batch_size": 4, "curve": [0, 4]},
        evaluation={"expressions": 8, "text_windows": 4},
        also=[],
    )
    value["pretraining"].update(
        stages=[
            {"steps": [2, 2], "arithmetic": 0.5, "decay": False},
            {"steps": [2], "arithmetic": 1.0, "decay": True},
        ],
        batch_size=2,
        window=16,
        equations=4,
    )
    value.update(changes)
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished micro study: its folder and its results."""
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "general_text", lambda: "Some words, and more.\n\n" * 400)
        code = main(
            [
                "train",
                str(micro(root)),
                "--cache",
                str(root / "cache"),
                "--results",
                str(root / "micro.json"),
            ]
        )
    assert code == 0
    return root, read_results(root / "micro.json")


def test_a_study_measures_every_model_of_the_paper_s_tables(
    done: tuple[Path, dict[str, Any]],
) -> None:
    numbers = Numbers(done[1]["families"][0])
    assert numbers.count == 3
    for i in numbers.versions:
        assert 0 <= numbers.base(i) <= 100
        for j in numbers.versions:
            assert 0 <= numbers.plus(i, j) <= 100
    for j, i in [(1, 2), (2, 1), (2, 3), (3, 2)]:
        assert (j, i) in numbers.neighbours
        assert 0 <= numbers.tuned(j, i, what="unseen") <= 100
        assert numbers.tuned(j, i, what="text_loss") > 0
    assert [step for step, _ in numbers.curve(1, 2, 3)] == [0, 4]


def test_a_curve_starts_at_the_transfer_and_ends_at_the_adapter(
    done: tuple[Path, dict[str, Any]],
) -> None:
    """M_i + Δ through the product has the score that training saw."""
    numbers = Numbers(done[1]["families"][0])
    for i in numbers.versions:
        assert numbers.curve(i)[0][1] == numbers.base(i)
        assert numbers.curve(i)[-1][1] == numbers.plus(i, i)
    for j, i in numbers.neighbours:
        assert numbers.curve(j, i)[0][1] == numbers.plus(i, j)
        assert numbers.curve(j, i)[-1][1] == numbers.tuned(j, i)


def test_a_second_run_trains_nothing_and_a_killed_one_goes_on(
    done: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, results = done
    settings = read_settings(root / "micro.yaml")
    stamps = {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.json")}
    again = run_study(settings, root / "cache", lambda _line: None)
    assert again["families"] == json.loads(json.dumps(results["families"]))
    assert {p: p.stat().st_mtime_ns for p in (root / "cache").rglob("*.json")} == stamps
    assert (
        main(["train", str(root / "micro.yaml"), "--cache", str(root / "cache"), "--dry-run"]) == 0
    )
    printed = capsys.readouterr().out
    assert "to do" not in printed
    assert "done   seed 1: FT(M_3 + Δ_2^iter)" in printed


def test_a_report_needs_no_training(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    results = done[1]
    draw(results["families"], tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3
    page = "\n".join(f"<!-- begin {name} -->\n<!-- end {name} -->" for name in BLOCKS)
    text = renew(page, results)
    assert renew(text, results) == text
    assert text.count("| M_3 |") >= 2


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configurations_are_whole(name: str, tmp_path: Path) -> None:
    settings = read_settings(STUDY / f"{name}.yaml")
    assert settings.pretraining.versions == 5
    assert len(settings.seeds) >= 3
    stages = plan(settings, Cache(tmp_path))
    assert len({stage.node for stage in stages}) == len(stages)
    assert not list(tmp_path.iterdir())


def test_the_steps_are_those_of_the_paper() -> None:
    names = {step.name for step in steps_to_do(read_settings(STUDY / "small.yaml"))}
    assert {"1", "2", "3", "4", "5", "1-2-3-4-5", "4-5", "5-4", "1-5"} <= names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, "has other keys"),
        ({"digits": "two"}, "digits: has the wrong type"),
        ({"also": [[1, 9]]}, "also names two of 3 versions"),
        ({"device": "tpu"}, "device auto, cpu or cuda"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(micro(tmp_path, **change)), "--cache", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_fine_tuning_asks_about_a_held_out_expression() -> None:
    asked = held_out(1, 80)
    barred = {problem.expression for problem in asked}
    assert len(barred) == 80
    rows = training(1, 7, asked)
    assert not barred & {next(rows).expression for _ in range(500)}
    assert all("*" in problem.expression for problem in unseen())


def test_the_answers_are_right() -> None:
    for problem in (*held_out(2, 50), *unseen()):
        first, operator, second = problem.expression.split()
        value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operator]
        assert str(value(int(first), int(second))) == problem.answer
        assert problem.expression in problem.question
    lines = equations(1, 3)
    assert all(next(lines).startswith(" ") for _ in range(9))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.floats(-50, 50))
def test_an_interval_moves_with_its_values(values: list[float], shift: float) -> None:
    plain, moved = Interval.of(values), Interval.of([value + shift for value in values])
    assert moved.mean == pytest.approx(plain.mean + shift, abs=1e-9)
    assert moved.half == pytest.approx(plain.half, abs=1e-9)
    assert plain.low <= min(plain.mean, plain.high)


def test_an_interval_is_student_s() -> None:
    interval = Interval.of([1.0, 2.0, 3.0, 4.0])
    assert interval.mean == 2.5
    assert interval.half == pytest.approx(3.182 * math.sqrt(5 / 3) / 2)
    assert Interval.of([1.0]).half == math.inf


@given(
    st.floats(-100, 100),
    st.floats(0, 50),
    st.floats(0, 10),
    st.floats(0, 5),
)
def test_a_verdict_follows_its_rule(mean: float, half: float, least: float, near: float) -> None:
    verdict = judge(Interval(mean, half), least, near)
    low, high = mean - half + near, mean + half + near
    if verdict == REPRODUCED:
        assert low > 0
        assert mean + near >= least
    elif verdict == NOT:
        assert high < least or high < 0
    else:
        assert verdict == UNSEEN
        assert high >= least
        assert low <= 0 or mean + near < least


def test_one_seed_alone_shows_nothing() -> None:
    assert judge(Interval.of([50.0]), 2.0) == UNSEEN


def test_every_finding_has_an_outcome(done: tuple[Path, dict[str, Any]]) -> None:
    results = done[1]
    assert len(outcomes(results["families"])) == len(findings(3))


def test_the_page_shows_the_recorded_results() -> None:
    page = (DOCS / "study.md").read_text("utf-8")
    assert renew(page, read_results(RESULTS)) == page
    assert all(f"<!-- begin {name} -->" in page for name in BLOCKS)


def test_the_table_of_the_paper_says_what_the_study_found() -> None:
    text = (DOCS / "paper.md").read_text("utf-8")
    for outcome in outcomes(read_results(RESULTS)["families"]):
        row = f"{shown(outcome.seen, '+.1f')} {outcome.finding.unit} | {outcome.verdict} |"
        assert row in text, outcome.finding.claim


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(StudyError, match="unknown block"):
        renew("<!-- begin table-99 -->\n<!-- end table-99 -->", {})
