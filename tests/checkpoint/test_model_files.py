"""Which file of a model folder is what: every tokenizer and processor of transformers is served."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest
import transformers.models
from hypothesis import given, settings
from hypothesis import strategies as st

from ftt_hub.artifact.stored_files import stored_companions, stored_name
from ftt_hub.checkpoint.headers import companions_in
from ftt_hub.support import model_files

_NAMES = re.compile(r"VOCAB_FILES_NAMES\s*=\s*\{(.*?)\}", re.DOTALL)


def vocabulary_files() -> set[str]:
    """File names of all tokenizer classes, read from their source without importing them."""
    names: set[str] = set()
    for module in pkgutil.iter_modules(transformers.models.__path__):
        package = importlib.util.find_spec(f"transformers.models.{module.name}")
        assert package is not None
        assert package.submodule_search_locations
        for path in Path(package.submodule_search_locations[0]).glob("tokenization_*.py"):
            for body in _NAMES.findall(path.read_text(encoding="utf-8")):
                names.update(re.findall(r":\s*\"([^\"]+)\"", body))
    return names


def test_every_vocabulary_file_of_transformers_is_a_companion_that_may_travel() -> None:
    names = vocabulary_files()
    assert len(names) > 20
    assert [n for n in names if not model_files.is_companion(n)] == []
    assert [n for n in names - {"tokenizer_config.json"} if not model_files.travels(n)] == []


@pytest.mark.parametrize(
    "name",
    [
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/rag.jinja",
        "modeling_x.py",
        "custom_generate/generate.py",
        "LICENSE",
        "LICENSE.txt",
        "NOTICE.md",
        "USE_POLICY.md",
        "qwen.tiktoken",
        "tekken.json",
        "1_Pooling/config.json",
        "modules.json",
        "Arial.TTF",
        "generation_config.json",
    ],
)
def test_what_a_model_needs_is_a_companion(name: str) -> None:
    assert model_files.is_companion(name)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "optimizer.pt",
        "trainer_state.json",
        "training_args.bin",
        "rng_state_0.pth",
        "README.md",
        ".gitattributes",
        "original/tokenizer.model",
        "onnx/config.json",
        "checkpoint-5/tokenizer.json",
        "logo.png",
        "adapter_config.json",
        "adapter_model.safetensors",
        "m.gguf",
        "x.pkl",
        "all_results.json",
        "../tokenizer.json",
        "a/../b.json",
        "additional_chat_templates/x.py",
        "backup.zip",
        "events.out.tfevents.1",
        "zero_to_fp32.py",
        "LICENSE.pkl",
    ],
)
def test_weights_training_state_and_other_formats_are_no_companions(name: str) -> None:
    assert not model_files.is_companion(name)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_no_weights_and_no_config_travel_whatever_a_manifest_lists(name: str) -> None:
    for path in stored_companions({name: {"size": 1}, f"{name}.bin": {"size": 1}}):
        assert not model_files.is_weights(path)
        assert path != "config.json"
        assert ".." not in Path(path).parts


def test_templates_of_the_folder_have_flat_names_in_an_adapter() -> None:
    path = "additional_chat_templates/tool_use.jinja"
    assert stored_name(path) == "additional_chat_templates--tool_use.jinja"
    assert stored_companions({stored_name(path): {"size": 1}}) == {path: stored_name(path)}


def test_companions_of_a_folder_leave_out_hidden_and_other_folders(tmp_path: Path) -> None:
    for name in (
        "tokenizer.json",
        "config.json",
        ".cache/vocab.txt",
        "original/tokenizer.model",
        "additional_chat_templates/rag.jinja",
        "runs/a.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert companions_in(tmp_path) == ("additional_chat_templates/rag.jinja", "tokenizer.json")
