"""An adapter and a target on the Hub are checked without their weights: counted, not claimed."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import shapes
from hub_fixtures import adapters, client, first, naps, second, server
from hub_server import HubServer, Status
from models import TinyFamily, config, random_state, save_model

import ftt_hub
from ftt_hub.catalogue.browse import browse
from ftt_hub.errors import FttError, HubError, IntegrityError
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.support.findings import CompatibilityReport

__all__ = ["adapters", "client", "first", "naps", "second", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BUDGET_BYTES, BUDGET_REQUESTS = 300_000, 20


def seed(server: HubServer, name: str, folder: Path) -> str:
    return server.commit(name, {p.name: p.read_bytes() for p in folder.iterdir()})


def check(adapter: str, target: str, depth: str = "headers") -> CompatibilityReport:
    report = ftt_hub.verify(adapter, target, depth=depth)
    assert isinstance(report, CompatibilityReport)
    return report


@pytest.fixture
def big(client: HubServer, tmp_path: Path) -> HubServer:
    commit = shapes.put_model(client, tmp_path / "files", "org/base-8b")
    shapes.put_model(client, tmp_path / "files", "org/base-8b-v2")
    shapes.put_adapter(client, tmp_path / "files", "org/big-tr", ("org/base-8b", commit))
    client.requests.clear()
    return client


def test_an_8b_adapter_and_target_are_checked_within_the_budget(big: HubServer) -> None:
    report = check("org/big-tr", "org/base-8b-v2")
    assert report.status == "accepted", report.verdict
    assert "same tokens at the same ids" in {f.reason for f in report.findings}
    assert report.estimate["target_download"] == 16_060_522_496
    assert big.requests.bytes_sent < BUDGET_BYTES
    assert len(big.requests) <= BUDGET_REQUESTS


def test_browse_with_a_target_keeps_the_budget_too(big: HubServer) -> None:
    [entry] = browse(target="org/base-8b-v2")
    assert entry.compatibility is not None
    assert entry.compatibility.status == "accepted"
    assert big.requests.bytes_sent < BUDGET_BYTES
    assert len(big.requests) <= BUDGET_REQUESTS
    big.requests.clear()
    assert list(browse(target="org/base-8b-v2"))
    assert big.requests.bytes_sent < 30_000  # all but the moving heads is kept by commit


def test_an_unknown_tokenizer_is_a_warning_and_no_download(big: HubServer) -> None:
    big.commit("org/base-8b-v2", {"tokenizer.json": shapes.TOKENIZER + b" "})
    big.requests.clear()
    report = check("org/big-tr", "org/base-8b-v2")
    [finding] = [f for f in report.findings if f.check == "vocabulary"]
    assert finding.status == "warned"
    assert big.requests.bytes_sent < BUDGET_BYTES


@pytest.mark.parametrize("depth", ["headers", "sketch"])
def test_ranged_reads_find_what_whole_files_show(
    client: HubServer, first: Path, family: TinyFamily, depth: str
) -> None:
    HubRegistry().publish(first, "org/tiny-tr", version="1.0.0")
    for name in ("source", "target", "stranger"):
        seed(client, f"org/{name}", family.root / name)
        client.requests.clear()
        remote = check("org/tiny-tr@v1.0.0", f"org/{name}", depth)
        local = check(str(first), str(family.root / name), depth)
        assert [(f.check, f.status) for f in remote.findings] == [
            (f.check, f.status) for f in local.findings
        ]
        assert remote.estimate == local.estimate
        whole = [r for r in client.requests.where("GET", "model.safetensors") if not r.range]
        assert not whole
        assert len(client.requests) <= 300


def test_a_stranger_is_refused_at_depth_sketch_without_a_download(
    client: HubServer, first: Path, family: TinyFamily
) -> None:
    HubRegistry().publish(first, "org/tiny-tr")
    seed(client, "org/stranger", family.stranger)
    report = check("org/tiny-tr", "org/stranger", "sketch")
    assert report.status == "rejected"
    assert "unrelated to the source base" in report.verdict


def test_a_server_without_ranges_is_downloaded_from_with_a_warning(
    client: HubServer, first: Path, family: TinyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub_server import files

    HubRegistry().publish(first, "org/tiny-tr")
    seed(client, "org/target", family.target)
    monkeypatch.setattr(
        files,
        "_ranged",
        lambda blob, asked, headers: files._Content(blob, 0, blob.size, 200, headers),
    )
    with pytest.warns(UserWarning, match="the server ignores ranges; downloading all"):
        report = check("org/tiny-tr", "org/target", "sketch")
    assert report.depth == "sketch"
    assert "same lineage" in {f.check: f.reason for f in report.findings}["sketch"]


def test_rows_that_must_move_make_it_read_the_tokenizers(
    client: HubServer, first: Path, tmp_path: Path
) -> None:
    HubRegistry().publish(first, "org/tiny-tr")
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(92, -1, -1)), "extra"]
    state = random_state(0, rows=len(words))
    save_model(tmp_path / "t", state, config(vocab_size=len(words)), words=words)
    seed(client, "org/other-rows", tmp_path / "t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check("org/tiny-tr", "org/other-rows")
    local = check(str(first), str(tmp_path / "t"))
    assert [f.reason for f in report.findings if f.check == "vocabulary"] == [
        f.reason for f in local.findings if f.check == "vocabulary"
    ]


def test_a_damaged_index_is_an_integrity_error(client: HubServer, first: Path) -> None:
    files = {p.name: p.read_bytes() for p in first.iterdir()}
    data = bytearray(files["adapter_model.safetensors"])
    length = int.from_bytes(data[:8], "little")
    data[8 + length + 20] ^= 0xFF
    client.commit("org/bad", {**files, "adapter_model.safetensors": bytes(data)})
    seed(client, "org/model", first)
    with pytest.raises(IntegrityError, match="index is damaged"):
        check("org/bad", "org/bad")


def test_a_huge_manifest_is_read_no_further_than_its_limit(client: HubServer) -> None:
    client.commit("org/huge", {"adapter_config.json": b'{"a": "' + b"x" * 5_000_000 + b'"}'})
    client.requests.clear()
    with pytest.raises(IntegrityError, match="too large"):
        check("org/huge", "org/huge")
    assert client.requests.bytes_sent < 500_000


def test_what_was_read_once_is_read_offline_again(
    client: HubServer, first: Path, family: TinyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = HubRegistry().publish(first, "org/tiny-tr", version="1.0.0")
    ftt_hub.pull(done.ref)
    client.stop()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ftt_hub.TransferAdapter.from_pretrained(done.ref).config.languages == ["tr", "de-AT"]
    assert check(done.ref, str(family.target)).status == "accepted"
    with pytest.raises(HubError, match=r"org/other.*not in the cache, and offline mode is on"):
        ftt_hub.pull("org/other")


def test_a_model_without_safetensors_is_told_so(client: HubServer, first: Path) -> None:
    HubRegistry().publish(first, "org/tiny-tr")
    client.commit("org/empty", {"config.json": b"{}"})
    with pytest.raises(FttError, match="no weights that transformers loads"):
        check("org/tiny-tr", "org/empty")


def test_a_busy_server_is_asked_again(
    client: HubServer,
    first: Path,
    family: TinyFamily,
    naps: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ftt_hub")
    HubRegistry().publish(first, "org/tiny-tr")
    seed(client, "org/target", family.target)
    client.faults.add(path_regex="/resolve/", action=Status(429, retry_after=7))
    client.faults.add(path_regex="/api/models/", action=Status(500))
    assert check("org/tiny-tr", "org/target").status == "accepted"
    assert 7.0 in naps
    assert "too many requests; trying again in 7 s" in caplog.text
