"""Evaluation results: in the card as the Hub reads them, beside the content, found by browse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ftt_hub.cli.browse import command
from hub_fixtures import adapters, client, first, second, server
from hub_server import HubServer
from huggingface_hub import ModelCard

import ftt_hub
from ftt_hub import EvaluationResult
from ftt_hub.artifact.card_editing import split_card
from ftt_hub.artifact.card_results import results_from, with_results
from ftt_hub.artifact.manifest import read_config
from ftt_hub.errors import FttError, RefError

__all__ = ["adapters", "client", "first", "second", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "org/tiny-tr"
RESULTS = [
    EvaluationResult(
        "text-generation", "org/turkish-exams", "accuracy", 0.4125, metric_name="Accuracy",
        config="tr", split="test", target="org/base-v2@" + "b" * 40, scale=0.5,
        source_url="https://example.org/run/1", source_name="run 1",
    ),
    EvaluationResult("text-generation", "org/turkish-exams", "perplexity", 17.0, config="tr"),
]  # fmt: skip


@pytest.fixture(params=["folder", "hub", "poor hub"])
def shelf(request: pytest.FixtureRequest, client: HubServer, tmp_path: Path) -> str:
    if request.param == "poor hub":
        client.settings.ignore_filters = client.settings.bare_listing = True
    return str(tmp_path / "registry") if request.param == "folder" else "hf"


def listed(shelf: str) -> set[EvaluationResult]:
    [entry] = ftt_hub.browse(registry=shelf)
    return set(entry.listing.evaluations)


def test_what_was_recorded_before_a_push_is_found_after_it(
    shelf: str, first: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(first, tmp_path / "adapter"))
    assert ftt_hub.record_evaluations(folder, RESULTS)
    assert not ftt_hub.record_evaluations(folder, RESULTS)
    assert read_config(folder) == read_config(first)
    ftt_hub.verify(folder)
    ftt_hub.publish(folder, NAME, version="1.0.0", registry=shelf)
    assert listed(shelf) == set(RESULTS)


def test_what_was_recorded_after_a_push_changes_the_card_alone(
    shelf: str, first: Path, client: HubServer
) -> None:
    ftt_hub.publish(first, NAME, version="1.0.0", registry=shelf)
    assert ftt_hub.record_evaluations(NAME, RESULTS, registry=shelf)
    assert not ftt_hub.record_evaluations(NAME, RESULTS[:1], registry=shelf)
    assert listed(shelf) == set(RESULTS)
    again = ftt_hub.publish(first, NAME, version="1.0.0", registry=shelf)
    assert not again.changed
    [entry] = ftt_hub.browse(registry=shelf, language="tr")
    assert entry.listing.config == read_config(first)
    with pytest.raises(RefError, match="only main's card"):
        ftt_hub.record_evaluations(f"{NAME}@v1.0.0", RESULTS, registry=shelf)
    with pytest.raises(RefError, match="no such"):
        ftt_hub.record_evaluations("org/nothing", RESULTS, registry=shelf)


def test_the_hub_s_own_client_reads_them(client: HubServer, first: Path) -> None:
    ftt_hub.publish(first, NAME, version="1.0.0")
    ftt_hub.record_evaluations(NAME, RESULTS)
    card = ModelCard(client.read(NAME, "README.md").decode())
    found = {r.metric_type: r for r in card.data.eval_results or []}
    assert found["accuracy"].metric_value == 0.4125
    assert found["accuracy"].dataset_name == "org/turkish-exams"
    assert found["accuracy"].metric_args == {"target": RESULTS[0].target, "scale": 0.5}
    assert found["accuracy"].source_url == "https://example.org/run/1"
    assert found["perplexity"].task_type == "text-generation"
    assert card.data.to_dict()["base_model"] == "org/base-v1"


def test_json_of_browse_tells_them(client: HubServer, first: Path) -> None:
    ftt_hub.publish(first, NAME, version="1.0.0")
    ftt_hub.record_evaluations(NAME, RESULTS[1:])
    shown = CliRunner().invoke(command, ["--json"])
    assert '"metric": "perplexity"' in shown.stdout
    assert '"value": 17.0' in shown.stdout


def test_a_new_value_of_the_same_thing_replaces_the_old_one() -> None:
    front = with_results({"language": ["tr"]}, "x", RESULTS)
    newer = EvaluationResult("text-generation", "org/turkish-exams", "perplexity", 9.5, config="tr")
    after = with_results(front, "x", [newer])
    assert set(results_from(after)) == {RESULTS[0], newer}
    assert after["language"] == ["tr"]


def test_a_card_s_body_and_other_facts_stay(first: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(first, tmp_path / "adapter"))
    front, body = split_card((folder / "README.md").read_bytes())
    ftt_hub.record_evaluations(folder, RESULTS)
    after, same = split_card((folder / "README.md").read_bytes())
    assert same.strip() == body.strip()
    assert {key: value for key, value in after.items() if key != "model-index"} == front


HOSTILE: list[Any] = [
    None, 7, "x", [], [None], [{"results": 3}], [{"results": [{"metrics": [{"value": 1}]}]}],
    [{"results": [{"task": {"type": ["a"]}, "dataset": [], "metrics": [{"type": 1}]}]}],
    [{"results": [{"task": {"type": "t"}, "dataset": {"type": "d"},
                   "metrics": [{"type": "m", "value": float("nan")}, {"type": "m", "value": True},
                               {"type": "m" * 300, "value": 1}, {"type": "m\x1b", "value": 1},
                               {"type": "m", "value": 10**400}]}]}],
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_no_result_is_left_out(value: object) -> None:
    assert results_from({"model-index": value}) == ()


@pytest.mark.parametrize(
    "wrong", [{"value": float("nan")}, {"task": ""}, {"dataset": "x\ny"}, {"scale": float("inf")}]
)
def test_a_result_is_a_line_of_text_and_a_finite_figure(wrong: dict[str, Any]) -> None:
    with pytest.raises(FttError, match="not a"):
        EvaluationResult(**{"task": "t", "dataset": "d", "metric": "m", "value": 1.0, **wrong})
