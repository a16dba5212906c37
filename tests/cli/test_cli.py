"""The command line as a user meets it: exit codes, one-line errors, data on stdout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ftt_hub.cli.main import COMMANDS
from models import TinyFamily, config, random_state, save_model

MAIN = "from ftt_hub.cli.main import main; main()"
Done = subprocess.CompletedProcess[str]


def run(*arguments: object, cwd: Path | None = None) -> Done:
    words = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "a"
    done = run(
        "extract",
        family.source,
        family.tuned,
        out,
        "--language",
        "tr",
        "--license",
        "mit",
        "--source-id",
        "org/base",
        "--fine-tuned-id",
        "me/tuned",
    )
    assert done.returncode == 0, done.stderr
    return out


def assert_one_line(done: Done, code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_the_main_job_from_the_command_line(
    family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    place = ("--registry", tmp_path / "registry")
    ref = "me/llama-tr@v1.0.0"
    pushed = run("push", adapter, "me/llama-tr", "--version", "1.0.0", *place)
    assert pushed.returncode == 0
    assert pushed.stdout.startswith(ref)
    again = run("push", adapter, "me/llama-tr", "--version", "1.0.0", *place)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    listed = run("browse", "--language", "tr", "--json", *place)
    (entry,) = json.loads(listed.stdout)
    assert (entry["name"], entry["source_base"]) == ("me/llama-tr", "org/base")
    table = run("browse", "--language", "tr", "--target", family.target, *place)
    assert "me/llama-tr" in table.stdout
    assert "compatible" in table.stdout
    assert run("verify", ref, *place).stdout.startswith(f"{ref}: intact (sha256:")
    fits = run("verify", ref, "--target", family.target, "--depth", "sketch", "--json", *place)
    assert fits.returncode == 0
    assert json.loads(fits.stdout)["status"] == "accepted"
    pulled = run("pull", ref, tmp_path / "copy", *place)
    assert pulled.stdout.strip() == str(tmp_path / "copy")
    applied = run("apply", ref, "--target", family.target, "--out", tmp_path / "m", *place)
    assert applied.returncode == 0, applied.stderr
    assert (tmp_path / "m" / "model.safetensors").is_file()
    info = run("info", ref, "--json", *place)
    assert json.loads(info.stdout)["config"]["license"] == "mit"
    assert "layer" in run("info", ref, "--layers", *place).stdout


def test_a_stranger_exits_with_three(family: TinyFamily, adapter: Path, tmp_path: Path) -> None:
    seen = run("verify", adapter, "--target", family.stranger, "--depth", "sketch")
    assert seen.returncode == 3
    assert "unrelated to the source base" in seen.stdout
    applied = run("apply", adapter, "--target", family.stranger, "--out", tmp_path / "m")
    assert_one_line(applied, 3, "unrelated", "--force")
    assert not (tmp_path / "m").exists()


def test_another_architecture_exits_with_three(adapter: Path, tmp_path: Path) -> None:
    target = save_model(tmp_path / "t", random_state(0), config(model_type="mistral"))
    done = run("verify", adapter, "--target", target)
    assert done.returncode == 3
    assert "for llama, the target is mistral" in done.stdout


def test_damage_exits_with_four(adapter: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(adapter, tmp_path / "d")
    with (damaged / "adapter_model.safetensors").open("r+b") as file:
        file.seek(-10, 2)
        file.write(b"\x00\x01\x02")
    assert_one_line(run("verify", damaged), 4, "adapter_model.safetensors", "hash")


def test_mistakes_in_the_arguments_exit_with_two() -> None:
    for words in (["extract"], ["fly"], ["apply", "x", "--scale", "much"], ["verify", "--depth"]):
        done = run(*words)
        assert done.returncode == 2
        assert "Error: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["verify", "nowhere"], ["nowhere", "no such folder"]),
        (["verify", "a b/c"], ["not a repository name"]),
        (["verify", "."], ["adapter_config.json"]),
        (["extract", "nowhere", "nowhere", "out"], ["nowhere"]),
        (["pull", "me/none", "--registry", "reg"], ["me/none", "no such adapter"]),
        (["apply", "me/none", "--registry", "reg", "--target", "x", "--out", "y"], ["me/none"]),
    ],
)
def test_errors_are_one_line_and_exit_with_one(
    words: list[str], parts: list[str], tmp_path: Path
) -> None:
    assert_one_line(run(*words, cwd=tmp_path), 1, *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_registry_says_what_to_do(tmp_path: Path) -> None:
    done = run("browse", "--registry", tmp_path / "empty")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "publish the first one" in done.stderr


def test_hostile_texts_are_printed_as_they_are(family: TinyFamily, tmp_path: Path) -> None:
    run("extract", family.source, family.tuned, tmp_path / "a", "--dataset", "[red]x[/red]\x1b[31m")
    done = run("info", tmp_path / "a")
    assert "[red]x[/red]" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("shard", "hint"), [("missing", "missing shard"), ("cut", "truncated"), ("long", "header")]
)
def test_broken_checkpoints_name_the_file(
    family: TinyFamily, tmp_path: Path, shard: str, hint: str
) -> None:
    folder = save_model(tmp_path / "t", random_state(1), shards=3)
    path = folder / "model-00002-of-00003.safetensors"
    data = path.read_bytes()
    path.unlink()
    if shard == "cut":
        path.write_bytes(data[:-100])
    elif shard == "long":
        path.write_bytes((10**9).to_bytes(8, "little") + data[8:])
    done = run("extract", family.source, folder, tmp_path / "a")
    assert_one_line(done, 1, path.name, hint)
    assert not (tmp_path / "a").exists()


def test_an_index_that_names_a_missing_tensor_is_refused(
    family: TinyFamily, tmp_path: Path
) -> None:
    folder = save_model(tmp_path / "t", random_state(1), shards=2)
    index = folder / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    value["weight_map"]["model.phantom.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(value))
    done = run("extract", family.source, folder, tmp_path / "a")
    assert_one_line(done, 1, "model.phantom.weight", "missing")


@pytest.mark.parametrize("place", ["../up.safetensors", "/etc/passwd", 7])
def test_an_index_cannot_point_outside_its_folder(
    family: TinyFamily, tmp_path: Path, place: object
) -> None:
    folder = save_model(tmp_path / "t", random_state(1), shards=2)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": place}}))
    assert_one_line(run("extract", family.source, folder, tmp_path / "a"), 1, "impossible file")


def test_every_command_has_help_with_an_example() -> None:
    for name in COMMANDS:
        done = run(name, "--help")
        assert done.returncode == 0
        assert re.search(rf"Example: ftt-hub\s+{name}", done.stdout), name


def test_help_answers_at_once() -> None:
    """Best of five against a bare interpreter with the same imports of the standard library.

    In processor time, which other work on the machine does not lengthen much.
    """

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True)
            after = os.times()
            user = after.children_user - before.children_user
            times.append(user + after.children_system - before.children_system)
        return min(times)

    assert best(MAIN) < best("import json, argparse, logging") + 0.3


def test_help_and_import_load_no_heavy_module() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'huggingface_hub', 'numpy', 'rich'}"
    code = f"import sys, ftt_hub, ftt_hub.cli.main; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_extract_and_apply_load_no_torch(family: TinyFamily, tmp_path: Path) -> None:
    code = (
        "import sys, ftt_hub; "
        f"ftt_hub.extract({str(family.source)!r}, {str(family.tuned)!r}, {str(tmp_path / 'a')!r}); "
        f"ftt_hub.apply({str(tmp_path / 'a')!r}, {str(family.target)!r}, {str(tmp_path / 'm')!r}); "
        "print(sorted({'torch', 'transformers', 'peft', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
