"""A check that is added from outside counts everywhere: one function in one list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from models import TinyFamily
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.catalogue.browse import browse
from ftt_hub.errors import IncompatibleError
from ftt_hub.registry.push import push
from ftt_hub.support.findings import Finding, Status
from ftt_hub.support.json_schema import validate
from ftt_hub.transfer import findings
from ftt_hub.transfer.findings import Transfer

Enter = Callable[[Status], None]


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ftt_hub.extract(family.source, family.tuned, tmp_path_factory.mktemp("f") / "a").folder


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Adds a toy check to the list: no target may have fewer than three layers."""

    def enter(status: Status) -> None:
        def few_layers(transfer: Transfer) -> list[Finding]:
            layers = transfer.target.config["num_hidden_layers"]
            return [] if layers > 2 else [Finding("layers", status, f"only {layers} layers")]

        monkeypatch.setattr(findings, "CHECKS", [*findings.CHECKS, few_layers])

    return enter


@pytest.mark.parametrize("depth", ["headers", "sketch"])
@pytest.mark.parametrize(("status", "code"), [(Status.WARNED, 0), (Status.REJECTED, 3)])
def test_verify_reports_it_in_json_and_exit_code(
    adapter: Path, family: TinyFamily, enter: Enter, depth: str, status: Status, code: int
) -> None:
    words = ["verify", adapter, "--target", family.target, "--depth", depth, "--json"]
    before = CliRunner().invoke(cli, [str(word) for word in words])
    assert "layers" not in {f["check"] for f in json.loads(before.stdout)["findings"]}
    enter(status)
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == code
    value = validate(json.loads(done.stdout), "verdict", "verdict")
    toy = {"check": "layers", "status": status.value, "reason": "only 2 layers"}
    assert toy in value["findings"]
    assert "only 2 layers" in value["verdict"]


def test_apply_and_every_loader_refuse_by_it(
    adapter: Path, family: TinyFamily, enter: Enter, tmp_path: Path
) -> None:
    enter(Status.REJECTED)
    ways: list[Callable[[], object]] = [
        lambda: ftt_hub.apply(adapter, family.target, tmp_path / "merged"),
        lambda: ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            adapter, base_model=family.target
        ),
        lambda: ftt_hub.TransferAdapter.from_pretrained(adapter).apply_to(
            AutoModelForCausalLM.from_pretrained(family.target)
        ),
        lambda: AutoModelForCausalLM.from_pretrained(family.target).load_adapter(str(adapter)),
    ]
    for way in ways:
        with pytest.raises(IncompatibleError, match="only 2 layers"):
            way()
    assert not (tmp_path / "merged").exists()


def test_apply_to_and_browse_report_it(
    adapter: Path, family: TinyFamily, enter: Enter, tmp_path: Path
) -> None:
    enter(Status.WARNED)
    model = AutoModelForCausalLM.from_pretrained(family.target)
    report = ftt_hub.TransferAdapter.from_pretrained(adapter).apply_to(model)
    assert "only 2 layers" in {finding.reason for finding in report.findings}
    push(adapter, "me/adapter", version="1.0.0", registry=tmp_path / "registry")
    [entry] = browse(target=family.target, registry=tmp_path / "registry")
    assert entry.compatibility is not None
    assert "only 2 layers" in {finding.reason for finding in entry.compatibility.findings}
