"""Public names: listed once, documented, importable from where earlier versions had them."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from ftt_hub.cli.main import COMMANDS

import ftt_hub
from ftt_hub.support.moved import MOVED

ROOT = Path(__file__).parent.parent.parent
STUB = ROOT / "ftt_hub" / "__init__.pyi"

FORMER = {
    "AdapterRouter": "ftt_hub.routing.router",
    "AutoTransferModel": "ftt_hub.loading",
    "AutoTransferModelForCausalLM": "ftt_hub.loading",
    "AutoTransferModelForImageTextToText": "ftt_hub.loading",
    "AutoTransferModelForSeq2SeqLM": "ftt_hub.loading",
    "AutoTransferModelForSequenceClassification": "ftt_hub.loading",
    "Coding": "ftt_hub.extraction.choice",
    "EvaluationResult": "ftt_hub.registry.evaluations",
    "FttError": "ftt_hub.errors",
    "Ingredient": "ftt_hub.combining.recipe",
    "TextOptions": "ftt_hub.verdict.options",
    "TransferAdapter": "ftt_hub.api",
    "__version__": "ftt_hub.version",
    "apply": "ftt_hub.api",
    "browse": "ftt_hub.browsing",
    "combine": "ftt_hub.combining.verb",
    "convert_from_peft": "ftt_hub.converting",
    "convert_to_lora": "ftt_hub.converting",
    "convert_to_sparse_patch": "ftt_hub.converting",
    "deprecate": "ftt_hub.ledger",
    "evaluate": "ftt_hub.evaluation.comparison",
    "export_channels": "ftt_hub.converting",
    "extract": "ftt_hub.api",
    "publish": "ftt_hub.exchange",
    "pull": "ftt_hub.exchange",
    "rank": "ftt_hub.ranking",
    "record_evaluations": "ftt_hub.ledger",
    "record_verdict": "ftt_hub.recording",
    "recycle": "ftt_hub.recycling.verb",
    "tune": "ftt_hub.tuning.verb",
    "verify": "ftt_hub.api",
    "versions": "ftt_hub.ledger",
}
"""Every public name of the release before the packages by subject, and its module there."""

STAYED = {
    "ftt_hub.combining.recipe",
    "ftt_hub.errors",
    "ftt_hub.extraction.choice",
    "ftt_hub.registry.evaluations",
    "ftt_hub.routing.router",
    "ftt_hub.verdict.options",
    "ftt_hub.version",
}
"""Modules that still have the name themselves, so that there is nothing to warn of."""


def stub_names() -> dict[str, str]:
    """Public name → module, from the stub."""
    names = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        assert isinstance(node, ast.ImportFrom)
        assert node.level == 1
        for alias in node.names:
            assert alias.asname == alias.name
            names[alias.name] = f"ftt_hub.{node.module}"
    return names


@pytest.mark.parametrize("name", sorted(FORMER))
def test_a_public_name_imports_from_its_former_module(name: str) -> None:
    module = import_module(FORMER[name])
    if FORMER[name] in STAYED:
        assert getattr(module, name) is getattr(ftt_hub, name)
        return
    with pytest.warns(DeprecationWarning, match=f"import {name} from ftt_hub instead of") as seen:
        value = getattr(module, name)
    assert value is getattr(ftt_hub, name)
    assert seen[0].filename == __file__


def test_former_modules_are_imported_as_any_other() -> None:
    code = """
import warnings
warnings.simplefilter("ignore")
import ftt_hub, ftt_hub.browsing, ftt_hub.combining.verb
from ftt_hub.loading import AutoTransferModel
assert ftt_hub.browsing.browse is ftt_hub.browse
assert ftt_hub.combining.verb.combine is ftt_hub.combine
assert ftt_hub.extract.__module__ == "ftt_hub.api.extract"  # the submodule is loaded now
from ftt_hub.api import extract, TransferAdapter
assert extract is ftt_hub.extract
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(MOVED))
def test_a_former_module_has_no_other_names(path: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_that_name'"):
        _ = import_module(f"ftt_hub.{path}").nothing_of_that_name


def test_former_modules_list_public_names_only() -> None:
    assert {name for names in MOVED.values() for name in names} <= set(stub_names())


def test_all_and_the_stub_list_the_same_names() -> None:
    assert sorted(ftt_hub.__all__) == sorted(stub_names())
    for name, module in stub_names().items():
        assert getattr(ftt_hub, name) is getattr(import_module(module), name)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "convert"])
def test_a_command_its_function_and_its_file_have_one_name(name: str) -> None:
    function = getattr(ftt_hub, name)
    assert function.__name__ == name
    assert function.__module__.rpartition(".")[2] == name
    source = (ROOT / "cli" / f"{name}.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert function.__module__ in {node.module for node in imports}


@pytest.mark.parametrize("name", ["from_peft", "to_lora", "to_sparse_patch"])
def test_a_conversion_and_its_function_have_one_name(name: str) -> None:
    function = getattr(ftt_hub, f"convert_{name}")
    assert function.__module__ == "ftt_hub.api.convert"
    assert f"import convert_{name}\n" in (ROOT / "cli" / "convert.py").read_text(encoding="utf-8")
