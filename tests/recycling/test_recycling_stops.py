"""The development loop stopped half-way: nothing finished is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from recycling_models import make_bases, write_recipe

import ftt_hub
from ftt_hub.artifact.manifest import read_config
from ftt_hub.errors import OutputError
from ftt_hub.recycling.trainer import drop_unfinished, last_checkpoint

MAIN = "from ftt_hub.cli.main import main; main()"
MANY = {"max_steps": 24, "learning_rate": 2e-3, "checkpoint_steps": 2}


def started(*arguments: object) -> subprocess.Popen[str]:
    """The command line in its own process, on one thread."""
    words = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def until(process: subprocess.Popen[str], seen: Callable[[], object]) -> None:
    """Wait for something to be on disk; fails when the process ends first."""
    deadline = time.monotonic() + 400
    while not seen():
        assert process.poll() is None, process.communicate()[1]
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(process.communicate()[1])
        time.sleep(0.002)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_bases(tmp_path_factory.mktemp("bases"), 2)


@pytest.fixture(scope="module")
def whole(bases: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the adapters of a run that nothing stopped."""
    root = tmp_path_factory.mktemp("whole")
    ftt_hub.recycle(write_recipe(root, bases, training=MANY))
    return digests(root)


def digests(root: Path) -> dict[str, str]:
    folder = root / "out" / "adapters"
    return {path.name: read_config(path).content_digest for path in sorted(folder.iterdir())}


def test_a_loop_killed_in_training_goes_on_to_the_same_adapters(
    bases: list[Path], whole: dict[str, str], tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, bases, training=MANY)
    checkpoints = tmp_path / "out" / "work" / "1-2" / "checkpoints"
    process = started("recycle", recipe)
    until(process, lambda: (last_checkpoint(checkpoints) or Path("-0")).name.endswith("-6"))
    process.kill()
    process.communicate()
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "adapters" / "1").iterdir()}
    reached = last_checkpoint(checkpoints)
    assert reached is not None

    notes: list[str] = []
    ftt_hub.recycle(recipe, note=notes.append)
    assert "step 1: done before" in notes
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert digests(tmp_path) == whole
    history = json.loads((tmp_path / "out" / "histories" / "1-2.json").read_text())
    assert [row["step"] for row in history if "loss" in row] == list(range(1, 25))


def test_a_full_disk_in_a_checkpoint_is_one_line_and_can_be_continued(
    bases: list[Path], whole: dict[str, str], tmp_path: Path
) -> None:
    """AdamW's moments take twice the weights: with this limit only they do not fit."""
    recipe = write_recipe(tmp_path, bases, training=MANY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint-2: .*(full|too large)"):
            ftt_hub.recycle(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out" / "work" / "1" / "checkpoints").glob("checkpoint-*"))
    ftt_hub.recycle(recipe)
    assert digests(tmp_path) == whole


def test_a_checkpoint_that_a_kill_cut_short_is_not_continued(tmp_path: Path) -> None:
    for step, name in ((2, "ftt_hub_complete"), (4, "model.safetensors")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / name).touch()
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-2"
    drop_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_the_command_shows_the_plan_and_then_the_losses(bases: list[Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, bases, training={"max_steps": 2})
    plan = CliRunner().invoke(cli, ["recycle", str(recipe), "--dry-run"], catch_exceptions=False)
    assert all(word in plan.stdout for word in ("compatible", "1-2", "to do", "free"))
    done = CliRunner().invoke(cli, ["recycle", str(recipe), "--json"], catch_exceptions=False)
    rows = json.loads(done.stdout)["variants"]["iterative"]
    assert [row["step"] for row in rows] == ["1", "1-2"]
    assert rows[1]["losses"]["tuned"]["value"] < rows[1]["losses"]["base"]["value"]
    assert "Δ of step 1" in done.stderr
    shown = CliRunner().invoke(cli, ["recycle", str(recipe)], catch_exceptions=False)
    assert f"{rows[1]['losses']['tuned']['value']:.4f}" in shown.stdout


def launch(recipe: Path) -> subprocess.Popen[str]:
    """Two processes on the processor; `--cpu` would launch a single one without MPI."""
    words = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        "1",
        "--main_process_port",
        "0",
        "-m",
        "ftt_hub.cli",
        "recycle",
        str(recipe),
        "--json",
    ]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


@pytest.mark.slow
def test_two_processes_of_accelerate_train_one_model(bases: list[Path], tmp_path: Path) -> None:
    out, _ = ended(launch(write_recipe(tmp_path, bases, training={"max_steps": 4})))
    rows = json.loads(out)["variants"]["iterative"]
    assert rows[1]["losses"]["tuned"]["value"] < rows[1]["losses"]["start"]["value"]


@pytest.mark.slow
def test_a_killed_worker_ends_the_launch_and_a_second_one_goes_on(
    bases: list[Path], tmp_path: Path
) -> None:
    ftt_hub.recycle(write_recipe(tmp_path, bases[:1], training=MANY))
    recipe = write_recipe(tmp_path, bases, training=MANY)
    checkpoints = tmp_path / "out" / "work" / "1-2" / "checkpoints"
    process = launch(recipe)
    until(process, lambda: last_checkpoint(checkpoints))
    workers = [pid for pid in children(process.pid) if environment(pid).get("RANK") == "1"]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "adapters" / "1").iterdir()}
    ended(launch(recipe))
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert set(digests(tmp_path)) == {"1", "1-2"}


def children(pid: int) -> list[int]:
    """All processes below one."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    own = [int(word) for task in tasks for word in task.read_text().split()]
    return [*own, *(below for child in own for below in children(child))]


def environment(pid: int) -> dict[str, str]:
    """The environment of a process."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
