"""`ftt-hub convert` and `info --channels`: exit codes, JSON, messages, one-line errors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from ftt_hub.cli.main import main
from models import TinyFamily, load_state, same_bits
from peft_adapters import T, make_adapter, merged_by_peft
from safetensors.torch import load_file

import ftt_hub

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's notes on training


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def command(*words: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() replaces it
        monkeypatch.setattr("sys.argv", ["ftt-hub", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        found = capsys.readouterr()
        code = stopped.value.code
        return Done(code if isinstance(code, int) else 0, found.out, found.err)

    return command


@pytest.fixture(scope="module")
def lora(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(family.source, tmp_path_factory.mktemp("lora") / "peft", "LORA", **T, r=4)


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "a"
    ftt_hub.extract(family.source, family.tuned, out).close()
    return out


def assert_one_line(done: Done, code: int, *parts: str) -> None:
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for part in parts:
        assert part in done.err


def test_a_lora_goes_in_and_its_factors_come_out(
    run: Run, family: TinyFamily, lora: Path, tmp_path: Path
) -> None:
    done = run(
        "convert",
        "from-peft",
        lora,
        tmp_path / "a",
        "--base",
        family.source,
        "--language",
        "tr",
        "--license",
        "mit",
    )
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert "6 tensors changed" in done.out
    back = run("convert", "to-lora", tmp_path / "a", tmp_path / "lora", "--rank", 8)
    assert back.code == 0
    assert "6 modules keep the factors that the adapter stores: no SVD" in back.err
    assert "relative error 0.0000 over them, 0.0000 over all of Δ" in back.out
    assert set(load_file(tmp_path / "lora/adapter_model.safetensors")) == set(
        load_file(lora / "adapter_model.safetensors")
    )


def test_exact_is_peft_bit_for_bit_and_json_is_the_manifest(
    run: Run, family: TinyFamily, lora: Path, tmp_path: Path
) -> None:
    done = run(
        "convert",
        "from-peft",
        lora,
        tmp_path / "a",
        "--base",
        family.source,
        "--codec",
        "exact",
        "--json",
    )
    value = json.loads(done.out)
    assert (value["codec"]["id"], value["fidelity"]["exact"]) == ("exact", True)
    assert value["x-peft"]["peft_type"] == "LORA"
    ftt_hub.apply(tmp_path / "a", family.source, tmp_path / "merged")
    expected = merged_by_peft(family.source, lora)
    assert all(same_bits(t, expected[n]) for n, t in load_state(tmp_path / "merged").items())


def test_to_lora_reports_each_module_and_what_is_left_out(
    run: Run, adapter: Path, tmp_path: Path
) -> None:
    done = run("convert", "to-lora", adapter, tmp_path / "l", "--max-error", 0.5, "--json")
    value = json.loads(done.out)
    assert done.code == 0
    assert len(value["modules"]) == 14
    assert all(m["error"] <= 0.5 and not m["kept"] for m in value["modules"].values())
    assert not value["left_out"]["model.norm.weight"]["saved"]
    plain = run("convert", "to-lora", adapter, tmp_path / "m", "--target-modules", "q_proj")
    assert "model.layers.1.self_attn.q_proj" in plain.out
    assert "left out: model.norm.weight (a bias or norm" in plain.err
    assert "--modules-to-save carries the rest whole" in plain.err


def test_a_patch_and_signals_are_written(
    run: Run, family: TinyFamily, adapter: Path, tmp_path: Path
) -> None:
    patch = tmp_path / "p.safetensors"
    words = ("convert", "to-sparse-patch", adapter, patch, "--base", family.source)
    done = run(*words, "--json")
    value = json.loads(done.out)
    assert (value["file"], value["bytes"]) == (str(patch), patch.stat().st_size)
    assert 0 < value["changed"] <= value["elements"]
    assert_one_line(run(*words), 1, str(patch), "exists")
    signals = tmp_path / "c.safetensors"
    done = run("info", adapter, "--channels", signals)
    assert f"{signals}: channels of 14 matrices" in done.err
    assert "input_importance" in "".join(load_file(signals))


def test_what_cannot_be_converted_is_one_line_with_its_exit_code(
    run: Run, family: TinyFamily, adapter: Path, lora: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    from_peft, to_lora = ("convert", "from-peft"), ("convert", "to-lora")
    assert_one_line(run(*from_peft, tmp_path / "none", out), 1, "no such folder")
    assert_one_line(run(*from_peft, adapter, out), 1, "is a transfer adapter already")
    assert_one_line(run(*from_peft, lora, out, "--base", family.target), 3, "another base")
    assert_one_line(run(*to_lora, lora, out), 1, "is a PEFT adapter")
    assert_one_line(run(*to_lora, adapter, out, "--rank", 0), 1, "between 1 and 65536")
    assert_one_line(run(*to_lora, adapter, out, "--rank", 4, "--energy", 0.5), 1, "name one of")
    assert_one_line(run(*to_lora, adapter, out, "--target-modules", "x"), 1, "no linear layer")
    anchored = tmp_path / "anchored"
    ftt_hub.extract(family.source, family.tuned, anchored, codec="anchored").close()
    assert_one_line(run(*to_lora, anchored, out), 1, "its source base only", "--base")
    assert_one_line(
        run("info", anchored, "--channels", out), 1, "its source base only", "--source-base"
    )
    words = ("extract", family.source, family.tuned, out, "--codec", "factored")
    assert_one_line(run(*words), 1, "the factors of Δ are not known")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("from-peft", "a"), "Missing argument 'OUT'"),
        (("from-peft", "a", "b", "--codec", "zip"), "'zip' is not one of"),
        (("to-lora", "a", "b", "--rank", "many"), "not a valid integer"),
        (("to-lora", "a", "b", "--dtype", "int8"), "not one of"),
        (("to-sparse-patch", "a", "b"), "Missing option '--base'"),
        (("to-gguf", "a", "b"), "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, words: tuple[str, ...], message: str) -> None:
    done = run("convert", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
