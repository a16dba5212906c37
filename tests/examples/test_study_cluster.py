"""The study's files for a cluster, checked without one: the plan, the template, the commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from hub_fixtures import client, server  # noqa: F401 - fixtures
from hub_server import HubServer
from huggingface_hub import HfApi
from models import config, drifted, random_state, save_model
from transformers import AutoTokenizer

from ftt_hub.recycling.recipe import Training, read_recipe

CLUSTER = Path(__file__).parents[2] / "examples" / "controlled_study" / "cluster"
RECIPE = CLUSTER / "olmo2-7b.yaml"


def _revisions() -> list[tuple[str, str]]:
    return [tuple(base.split("@")) for base in yaml.safe_load(RECIPE.read_text("utf-8"))["bases"]]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's upload
def test_a_dry_run_plans_all_fine_tunings_on_the_revisions(
    client: HubServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    api = HfApi(endpoint=client.url, token=client.write_token)
    state = random_state(0)
    for number, (repo, revision) in enumerate(_revisions()):
        folder = save_model(tmp_path / revision, drifted(state, number, 0.01), config())
        api.create_repo(repo, exist_ok=True)
        api.create_branch(repo, branch=revision)
        api.upload_folder(repo_id=repo, folder_path=folder, revision=revision)
    done = CliRunner().invoke(cli, ["recycle", str(RECIPE), "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for step in ("1", "2", "5", "1-2", "4-5", "1-2-3-4-5"):
        assert re.search(rf"(?m)^\W*{step}\s", done.output), (step, done.output)
    assert not (CLUSTER / "olmo2-7b").exists()


def test_the_recipe_trains_as_the_paper_does() -> None:
    training = read_recipe(RECIPE).training
    for name in ("learning_rate", "schedule", "warmup", "batch_size", "sequence_length"):
        assert getattr(training, name) == getattr(Training(), name)
    assert training.max_steps == 30_000


def test_the_template_is_tulu_s(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(
        save_model(tmp_path, random_state(0), config()), local_files_only=True
    )
    tokenizer.chat_template = (CLUSTER / "tulu.jinja").read_text("utf-8")
    chat = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    assert whole == f"<|user|>\n1 + 1?\n<|assistant|>\n2{tokenizer.eos_token}"
    asked = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert asked == "<|user|>\n1 + 1?\n<|assistant|>\n"


def test_the_tables_are_evaluated_on_the_recipe_s_revisions(tmp_path: Path) -> None:
    stub = tmp_path / "bin" / "ftt-hub"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    stub.chmod(0o755)
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", CLUSTER / "evaluate.sh", "out"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line, (repo, revision) in zip(lines, _revisions(), strict=True):
        assert f"--target {repo}@{revision} " in line
        adapters = re.findall(r"--adapter out/adapters/(\S+)", line)
        assert adapters[:5] == ["1", "2", "3", "4", "5"]
        assert len(set(adapters)) == len(adapters)
    assert lines[4].count("--adapter out/adapters/1-2-3-4-5") == 1


def test_the_launcher_s_settings_are_those_that_recycle_needs() -> None:
    settings = load_config_from_file(str(CLUSTER / "fsdp.yaml"))
    assert settings.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    training = read_recipe(RECIPE).training
    batch = settings.num_processes * (training.per_device_batch_size or training.batch_size)
    assert training.batch_size % batch == 0
