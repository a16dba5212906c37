"""The files beside config and weights of a result: the target's, and those that travel with Δ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models import TinyFamily
from transformers import AutoTokenizer

import ftt_hub
from ftt_hub.artifact.folder import list_files
from ftt_hub.artifact.manifest import CONFIG_NAME, read_config
from ftt_hub.checkpoint.chat_templates import processor_templates
from ftt_hub.support.progress import Silent
from ftt_hub.transfer.tokenizer import load_tokenizer

NewFamily = Callable[..., TinyFamily]


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def set_key(folder: Path, name: str, key: str, value: object) -> None:
    path = folder / name
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**found, key: value}))


def transferred(family: TinyFamily) -> tuple[Path, Path]:
    """The adapter, and the result on the target."""
    adapter, out = family.root / "adapter", family.root / "out"
    ftt_hub.extract(family.source, family.tuned, adapter)
    ftt_hub.apply(adapter, family.target, out)
    return adapter, out


def template_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder).chat_template


def as_file(folder: Path, text: str) -> None:
    put(folder, {"chat_template.jinja": text})


def as_key(folder: Path, text: str) -> None:
    set_key(folder, "tokenizer_config.json", "chat_template", text)


def as_named_keys(folder: Path, text: str) -> None:
    value = [{"name": "default", "template": text}, {"name": "rag", "template": f"rag {text}"}]
    set_key(folder, "tokenizer_config.json", "chat_template", value)


def as_several_files(folder: Path, text: str) -> None:
    rag = {"additional_chat_templates/rag.jinja": f"rag {text}"}
    put(folder, {"chat_template.jinja": text, **rag})


def nothing(folder: Path, text: str) -> None:
    del folder, text


FORMS = (as_file, as_key, as_named_keys, as_several_files)
Form = Callable[[Path, str], None]


@pytest.mark.parametrize("theirs", [*FORMS, nothing])
@pytest.mark.parametrize("mine", FORMS)
def test_the_fine_tuned_chat_template_wins_in_every_form(
    mine: Form, theirs: Form, new_family: NewFamily
) -> None:
    family = new_family()
    for folder, form, text in (
        (family.source, theirs, "old"),
        (family.tuned, mine, "new"),
        (family.target, theirs, "v2"),
    ):
        form(folder, text)
    adapter, out = transferred(family)
    assert template_of(out) == template_of(family.tuned)
    with ftt_hub.TransferAdapter.from_pretrained(adapter).opened as opened:
        loaded = load_tokenizer(opened, family.target)
    assert loaded.chat_template == template_of(family.tuned)


def test_a_template_that_did_not_change_leaves_the_target_its_own(new_family: NewFamily) -> None:
    family = new_family()
    as_key(family.source, "same")
    as_key(family.tuned, "same")
    as_file(family.target, "newer")
    adapter, out = transferred(family)
    assert template_of(out) == "newer"
    assert not [n for n in read_config(adapter).files if "template" in n or "token" in n]


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_a_processor_template_of_the_target_does_not_outlive_the_fine_tuned_one(
    name: str, new_family: NewFamily
) -> None:
    family = new_family()
    for folder in (family.source, family.tuned, family.target):
        put(folder, {"processor_config.json": '{"size": 3}'})
    as_file(family.tuned, "new")
    set_key(family.target, name, "chat_template", "v2")
    _, out = transferred(family)

    def read(path: str) -> bytes | None:
        return (out / path).read_bytes() if (out / path).is_file() else None

    assert processor_templates(read, ["chat_template.jinja"]) == {"default": "new"}
    assert json.loads((out / "processor_config.json").read_text())["size"] == 3


def test_processors_that_differ_travel_and_replace_the_targets(new_family: NewFamily) -> None:
    family = new_family()
    put(family.source, {"preprocessor_config.json": '{"size": 1, "processor_class": "A"}'})
    put(family.target, {"preprocessor_config.json": '{"size": 1}'})
    put(family.tuned, {"preprocessor_config.json": '{"size": 2}', "processor_config.json": "{}"})
    _, out = transferred(family)
    assert json.loads((out / "preprocessor_config.json").read_text()) == {"size": 2}
    assert (out / "processor_config.json").read_text() == "{}"


def test_a_processor_that_is_only_written_otherwise_does_not_travel(new_family: NewFamily) -> None:
    family = new_family()
    put(family.source, {"preprocessor_config.json": '{"size": 1, "processor_class": "A"}'})
    put(family.tuned, {"preprocessor_config.json": '{"size":1}'})
    put(family.target, {"preprocessor_config.json": '{"size": 9}'})
    adapter, out = transferred(family)
    assert "preprocessor_config.json" not in read_config(adapter).files
    assert json.loads((out / "preprocessor_config.json").read_text()) == {"size": 9}


CODE = {
    "tokenization_x.py": "from .words_x import WORDS\n",
    "words_x.py": "WORDS = ()\n",
    "modeling_x.py": "raise SystemExit\n",
}


def test_code_travels_with_the_tokenizer_that_needs_it_and_model_code_stays(
    new_family: NewFamily,
) -> None:
    family = new_family()
    put(family.tuned, CODE)
    auto = {"AutoTokenizer": ["tokenization_x.X", None]}
    set_key(family.tuned, "tokenizer_config.json", "auto_map", auto)
    with pytest.warns(UserWarning, match="brings the code .*read it before"):
        adapter, out = transferred(family)
    assert {"tokenization_x.py", "words_x.py"} <= read_config(adapter).files.keys()
    assert "modeling_x.py" not in read_config(adapter).files
    assert (out / "words_x.py").read_text() == CODE["words_x.py"]


def test_code_of_an_adapter_never_replaces_the_targets(new_family: NewFamily) -> None:
    family = new_family()
    put(family.tuned, CODE)
    auto = {"AutoTokenizer": ["tokenization_x.X", None]}
    set_key(family.tuned, "tokenizer_config.json", "auto_map", auto)
    put(family.target, dict.fromkeys(CODE, "# the target's\n"))
    with pytest.warns(
        UserWarning, match=r"the target's own tokenization_x\.py, words_x\.py is kept"
    ):
        _, out = transferred(family)
    assert {(out / name).read_text() for name in CODE} == {"# the target's\n"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "evil.pkl"])
def test_files_that_are_no_companions_do_not_leave_an_adapter(
    name: str, new_family: NewFamily
) -> None:
    family = new_family()
    adapter = family.root / "adapter"
    ftt_hub.extract(family.source, family.tuned, adapter)
    (adapter / name).write_text("{}")
    config = read_config(adapter).with_files(list_files(adapter, Silent()))
    (adapter / CONFIG_NAME).write_bytes(config.to_bytes())
    ftt_hub.apply(adapter, family.target, family.root / "out")
    written = family.root / "out" / name
    assert not written.exists() or json.loads(written.read_text()) != {}


def test_a_tokenizer_under_other_names_travels_whole(new_family: NewFamily) -> None:
    family = new_family(words=None)
    for folder in (family.source, family.tuned, family.target):
        put(folder, {"source.spm": "a", "target.spm": "b", "vocab.json": "{}"})
    put(family.tuned, {"target.spm": "c", "notes.json": "{}"})
    adapter, out = transferred(family)
    assert {"source.spm", "target.spm", "vocab.json"} <= read_config(adapter).files.keys()
    assert "notes.json" not in read_config(adapter).files
    assert (out / "target.spm").read_text() == "c"


@pytest.mark.parametrize("text", ["{broken", "[1]"])
def test_a_broken_generation_config_is_ignored_with_a_word(
    text: str, new_family: NewFamily
) -> None:
    family = new_family()
    put(family.tuned, {"generation_config.json": text})
    with pytest.warns(UserWarning, match="ignored, as transformers does"):
        adapter, _ = transferred(family)
    assert read_config(adapter).generation_config == {}


def test_infinity_in_a_config_is_recorded_compared_and_written(new_family: NewFamily) -> None:
    family = new_family()
    for folder in (family.source, family.tuned):
        set_key(folder, "config.json", "time_step_limit", [0.0, float("inf")])
    set_key(family.target, "config.json", "time_step_limit", [0.0, {"__float__": "Infinity"}])
    adapter, out = transferred(family)
    text = (adapter / CONFIG_NAME).read_text()
    assert '"__float__": "Infinity"' in text
    assert json.loads(text, parse_constant=pytest.fail)
    assert read_config(adapter).source_base.config["time_step_limit"] == [0.0, float("inf")]
    assert json.loads((out / "config.json").read_text())["time_step_limit"][1] == float("inf")
