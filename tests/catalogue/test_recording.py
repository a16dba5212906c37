"""`verify --record` and what comes of it: the content stays, the card and browsing show it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from hub_fixtures import adapters, client, first, second, server
from hub_server import HubServer
from models import TinyFamily

import ftt_hub
from ftt_hub.artifact.folder import check_adapter
from ftt_hub.artifact.manifest import validate
from ftt_hub.catalogue.browse import browse
from ftt_hub.catalogue.rank import rank
from ftt_hub.catalogue.record import record_verdict
from ftt_hub.errors import FttError, HubError, RegistryError
from ftt_hub.extraction.builder import Provenance
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.verified import HEADING, Record, record_path, with_line
from ftt_hub.verdict.options import TextOptions
from ftt_hub.verdict.report import Verdict

__all__ = ["adapters", "client", "first", "second", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def seed(server: HubServer, name: str, folder: Path) -> str:
    return server.commit(name, {p.name: p.read_bytes() for p in folder.iterdir()})


def check(adapter: object, target: object, depth: str = "sketch", **options: object) -> Verdict:
    found = ftt_hub.verify(str(adapter), str(target), depth=depth, **options)
    assert isinstance(found, Verdict)
    return found


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, done.output


def test_a_record_in_a_folder_leaves_the_content_as_it_is(
    family: TinyFamily, tmp_path: Path
) -> None:
    folder = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter").folder
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "README.md"}
    code, output = run("verify", folder, "--target", family.target, "--depth", "sketch", "--record")
    assert code == 0, output
    [path] = (folder / "verified").iterdir()
    assert path.name.startswith("local-")
    value = validate(json.loads(path.read_bytes()), "verdict", "record")
    assert value["target"] == "target"
    assert str(family.root) not in path.read_text()
    card = (folder / "README.md").read_text(encoding="utf-8")
    [line] = [x for x in card.splitlines() if x.startswith("| target |")]
    assert "ftt-hub 0." in line
    assert "distance 0.05" in line
    assert {
        p.name: p.read_bytes() for p in folder.iterdir() if p.name not in ("README.md", "verified")
    } == before
    check_adapter(folder)


def test_a_second_record_of_the_same_target_replaces_the_first(
    family: TinyFamily, tmp_path: Path
) -> None:
    folder = ftt_hub.extract(family.source, family.tuned, tmp_path / "adapter").folder
    for target in (family.target, family.target, family.stranger):
        record_verdict(check(folder, target), folder, target)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.count(HEADING) == 1
    assert card.count("| target |") == 1
    assert card.count("| stranger |") == 1
    assert card.index(HEADING) < card.index("## Limits")
    assert len(list((folder / "verified").iterdir())) == 2


def test_a_record_of_another_adapter_is_refused(family: TinyFamily, tmp_path: Path) -> None:
    one = ftt_hub.extract(family.source, family.tuned, tmp_path / "one").folder
    two = ftt_hub.extract(family.source, family.target, tmp_path / "two").folder
    with pytest.raises(RegistryError, match="another adapter than was verified"):
        record_verdict(check(one, family.target), two, family.target)


def test_a_card_is_not_broken_by_what_a_target_is_called() -> None:
    record = Record("0" * 40, b"", ("a | b\n## c <x> [y](z)", "0" * 40, "d", "e", "f", "g", "h"))
    card = with_line(b"---\ntags: [x]\n---\n\n# T\n", record).decode()
    assert card.startswith("---\ntags: [x]\n---\n")
    assert "| a b ## c x y (z) |" in card
    assert with_line(card.encode(), record).decode() == card
    assert HEADING in with_line(None, record).decode()


@pytest.mark.parametrize("key", ["../x", "main", "0" * 39, "local-x"])
def test_a_key_that_is_no_commit_names_no_file(key: str) -> None:
    with pytest.raises(FttError, match="not a target's commit"):
        record_path(key)


def test_on_the_hub_a_record_is_one_commit_and_browse_shows_it(
    client: HubServer, first: Path, family: TinyFamily
) -> None:
    done = HubRegistry().publish(first, "org/tiny-tr", version="1.0.0")
    commit = seed(client, "org/target", family.target)
    client.requests.clear()
    code, output = run(
        "verify", done.ref, "--target", "org/target", "--depth", "sketch", "--record"
    )
    assert code == 0, output
    assert len(client.requests.where("POST", "/commit/")) == 1
    [entry] = browse(target="org/target")
    assert entry.verified is not None
    assert entry.verified["depth"] == "sketch"
    code, shown = run("browse", "--target", "org/target", "--json")
    assert json.loads(shown)[0]["verified"] == entry.verified
    assert "accepted at depth sketch" in run("browse", "--target", "org/target")[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = ftt_hub.pull(done.ref).folder  # the version is as it was
    assert check_adapter(folder).content_digest == check_adapter(first).content_digest
    assert commit[:12] in ftt_hub.pull("org/tiny-tr@main").folder.joinpath("README.md").read_text()


def test_a_record_of_another_commit_or_version_is_not_shown(
    client: HubServer, first: Path, family: TinyFamily
) -> None:
    done = HubRegistry().publish(first, "org/tiny-tr", version="1.0.0")
    seed(client, "org/target", family.target)
    record_verdict(check(done.ref, "org/target"), done.ref, "org/target")
    seed(client, "org/target", family.tuned)
    [entry] = browse(target="org/target")
    assert entry.verified is None


def test_a_local_registry_keeps_records_too(
    client: HubServer, first: Path, family: TinyFamily, tmp_path: Path
) -> None:
    place = tmp_path / "registry"
    ftt_hub.publish(first, "me/tiny", version="1.0.0", registry=place)
    seed(client, "org/target", family.target)
    verdict = check("me/tiny@v1.0.0", "org/target", registry=place)
    record_verdict(verdict, "me/tiny@v1.0.0", "org/target", registry=place)
    [entry] = browse(target="org/target", registry=place)
    assert entry.verified is not None
    check_adapter(ftt_hub.pull("me/tiny@v1.0.0", registry=place).folder)


def test_a_damaged_record_counts_as_none(
    client: HubServer, first: Path, family: TinyFamily
) -> None:
    done = HubRegistry().publish(first, "org/tiny-tr", version="1.0.0")
    commit = seed(client, "org/target", family.target)
    client.commit("org/tiny-tr", {f"verified/{commit}.json": b'{"depth": []}'})
    [entry] = browse(target="org/target")
    assert done.changed
    assert entry.verified is None


def test_a_gated_target_says_what_is_missing(
    client: HubServer, first: Path, family: TinyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(client, "org/gated", family.target)
    client._repo("org/gated").gated = "auto"
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises((RegistryError, HubError), match=r"gated|token"):
        check(first, "org/gated")


def test_rank_puts_the_nearest_first_and_strangers_last(
    client: HubServer, first: Path, family: TinyFamily, tmp_path: Path
) -> None:
    given = Provenance(languages=("tr",))
    far = ftt_hub.extract(family.target, family.tuned, tmp_path / "far", provenance=given)
    lost = ftt_hub.extract(family.stranger, family.tuned, tmp_path / "lost", provenance=given)
    for name, folder in (("far", far.folder), ("lost", lost.folder), ("near", first)):
        HubRegistry().publish(folder, f"org/{name}", version="1.0.0")
    seed(client, "org/source", family.source)
    found = rank("org/source", language="tr")
    assert [entry.name for entry in found] == [
        "org/near@v1.0.0",
        "org/far@v1.0.0",
        "org/lost@v1.0.0",
    ]
    assert found[0].reason.startswith("identical")
    assert "unrelated" in found[2].reason
    assert rank("org/source", language="de")
    assert not rank("org/source", language="fr")


def test_rank_with_a_text_lets_the_loss_decide(
    first: Path, second: Path, family: TinyFamily, tmp_path: Path
) -> None:
    place = tmp_path / "registry"
    for name, folder in (("one", first), ("two", second)):
        ftt_hub.publish(folder, f"me/{name}", registry=place)
    (tmp_path / "t.txt").write_text(" ".join(f"w{n % 60}" for n in range(400)))
    text = TextOptions(tmp_path / "t.txt", 200, 32, (1.0,))
    found = rank(family.target, text=text, registry=place)
    assert all(entry.report.depth == "loss" for entry in found if entry.report.status != "rejected")
    gains = [
        e.report.loss.best_gain.value
        for e in found
        if isinstance(e.report, Verdict)
        and e.report.loss is not None
        and e.report.status != "rejected"
    ]
    assert gains == sorted(gains, reverse=True)
    code, output = run("rank", "--target", family.target, "--registry", place, "--json")
    assert code == 0
    assert {entry["name"].split("@")[0] for entry in json.loads(output)} == {"me/one", "me/two"}
