"""Figures reach the adapter's card, on disk and on a Hub server, and the command's outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from evaluation_fixtures import TaskFiles, adapter_of, task_files
from ftt_hub.cli.main import cli
from hub_fixtures import client, server
from hub_server import HubServer
from models import TinyFamily

import ftt_hub
from ftt_hub.artifact.card_editing import split_card
from ftt_hub.artifact.card_results import results_from
from ftt_hub.artifact.folder import check_adapter
from ftt_hub.artifact.manifest import read_config
from ftt_hub.evaluation.record import record

__all__ = ["client", "server"]

# the client's own upload
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TaskFiles:
    return task_files(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def adapter(family: TinyFamily, tmp_path: Path) -> Path:
    return adapter_of(family, tmp_path / "tr")


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout, done.stderr


def results(card: Path) -> dict[tuple[str, str], object]:
    found = results_from(split_card(card.read_bytes())[0])
    return {(result.dataset, result.metric): result for result in found}


def test_the_command_compares_draws_and_records(
    family: TinyFamily, files: TaskFiles, adapter: Path, tmp_path: Path
) -> None:
    digest = read_config(adapter).content_digest
    picture = tmp_path / "picture.png"
    out, err = run(
        "--target",
        family.target,
        "--adapter",
        adapter,
        "--tasks",
        f"{files.choices},{files.generation}",
        "--text",
        files.text,
        "--limit",
        6,
        "--plot",
        picture,
        "--record",
        "--json",
    )
    value = json.loads(out)
    assert [model["kind"] for model in value["models"]] == ["target", "transfer"]
    assert "+ Δ tr: tiny_gen" in err
    assert f"recorded in the card of {adapter}" in err
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert check_adapter(adapter).content_digest == digest
    held = results(adapter / "README.md")
    assert set(held) == {
        ("choices", "acc"),
        ("choices", "acc_norm"),
        ("tiny_gen", "exact_match"),
        ("held_out.txt", "loss"),
        ("held_out.txt", "perplexity"),
    }
    said = held["choices", "acc"]
    assert said.target == "target"
    for part in ("± ", "(m_t ", "n=6", "0-shot", "limit 6", "lm-eval 0.4", "sha256:"):
        assert part in said.metric_name
    assert str(tmp_path) not in (adapter / "README.md").read_text()


def test_the_table_shows_a_line_for_each_model(
    family: TinyFamily, files: TaskFiles, adapter: Path
) -> None:
    out, _ = run(
        "--target", family.target, "--adapter", adapter, "--scale", "0.5", "--text", files.text
    )
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "task metric n model value 95% interval change, paired"
    assert any(line.startswith("held_out.txt loss") for line in lines)
    assert any(line.startswith("+ 0.5·Δ tr") and line.endswith(")") for line in lines)


def test_the_same_figures_again_change_no_card(
    family: TinyFamily, files: TaskFiles, adapter: Path, tmp_path: Path
) -> None:
    home = tmp_path / "registry"
    ftt_hub.publish(adapter, "org/tiny-tr", version="1.0.0", registry=home)
    found = ftt_hub.evaluate(
        family.target, adapters=["org/tiny-tr@v1.0.0"], text=files.text, registry=home
    )
    assert record(found, registry=home) == ["org/tiny-tr@v1.0.0"]
    assert record(found, registry=home) == []
    [entry] = ftt_hub.browse(registry=home)
    assert [r.metric for r in entry.listing.evaluations] == ["loss", "perplexity"]


def test_figures_reach_the_card_on_the_hub(
    client: HubServer, family: TinyFamily, files: TaskFiles, adapter: Path
) -> None:
    commit = client.commit("org/base", {p.name: p.read_bytes() for p in family.target.iterdir()})
    ftt_hub.publish(adapter, "org/tiny-tr", version="1.0.0")
    found = ftt_hub.evaluate("org/base", adapters=["org/tiny-tr@v1.0.0"], text=files.text)
    assert record(found) == ["org/tiny-tr@v1.0.0"]
    [entry] = ftt_hub.browse()
    [loss, _] = entry.listing.evaluations
    assert loss.value == found.rows[0].scores[1].value
    assert loss.target is not None
    assert loss.target.startswith("org/base@")
    assert len(loss.target) == len("org/base@") + 40
    assert commit is None or str(commit) in loss.target


def test_record_needs_an_adapter(family: TinyFamily, files: TaskFiles) -> None:
    _, err = run("--target", family.target, "--text", files.text, "--record", code=2)
    assert "give --adapter" in err


def test_help_and_import_stay_light() -> None:
    import subprocess

    code = (
        "import sys, ftt_hub, ftt_hub.cli.main, ftt_hub.cli.evaluate; "
        "print([m for m in ('torch', 'lm_eval', 'datasets', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
