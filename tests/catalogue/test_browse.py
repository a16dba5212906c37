"""Finding adapters: what push wrote, browse finds, on every kind of registry."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_fixtures import adapters, client, first, naps, second, server
from hub_server import HubServer
from models import TinyFamily

import ftt_hub
from ftt_hub.artifact import card
from ftt_hub.artifact.card_editing import split_card
from ftt_hub.artifact.manifest import AdapterConfig, read_config
from ftt_hub.catalogue.browse import Query, browse_page
from ftt_hub.errors import FttError
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.push import publish

__all__ = ["adapters", "client", "first", "naps", "second", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILTERS: list[dict[str, Any]] = [
    {"language": "tr"},
    {"language": "TR"},
    {"language": "de"},
    {"language": "de-AT"},
    {"source_base": "org/base-v1", "dataset": "org/corpus"},
    {"dataset": "ORG/more"},
    {"license": "apache-2.0"},
    {"search": "tiny-TR"},
    {"search": "corpus"},
    {"search": "apache"},
]


@pytest.fixture(params=["folder", "hub", "poor hub"])
def shelf(
    request: pytest.FixtureRequest, client: HubServer, tmp_path: Path, first: Path, second: Path
) -> str:
    """A registry with two adapters and things that are none."""
    where = str(tmp_path / "registry") if request.param == "folder" else "hf"
    if request.param == "poor hub":
        client.settings.ignore_filters = client.settings.bare_listing = True
    client.commit("other/lora", {"adapter_config.json": b'{"peft_type": "LORA"}'})
    client.commit("other/model", {"config.json": b"{}", "README.md": b"---\ntags: [x]\n---\n"})
    publish(first, "org/tiny-tr", version="1.0.0", registry=where)
    publish(second, "org/other-sw", version="0.9.0", registry=where)
    return where


def names(**options: Any) -> list[str]:
    return [entry.listing.name for entry in ftt_hub.browse(**options)]


def test_what_push_wrote_is_found_by_every_filter(shelf: str) -> None:
    for query in FILTERS:
        assert names(registry=shelf, **query) == ["org/tiny-tr"], query
    for query in ({"language": "t"}, {"search": "nothing"}, {"license": "mit"}):
        assert names(registry=shelf, **query) == [], query


def test_entries_tell_version_manifest_and_date(shelf: str, first: Path) -> None:
    entries = list(ftt_hub.browse(registry=shelf))
    assert [(e.listing.name, e.listing.revision) for e in entries] == [
        ("org/other-sw", "v0.9.0"),
        ("org/tiny-tr", "v1.0.0"),
    ]
    listing = entries[1].listing
    assert listing.config == read_config(first)
    assert (listing.updated or "") > "2020"
    assert (listing.downloads is not None) == (shelf == "hf")


def test_pages_are_disjoint_and_whole(shelf: str) -> None:
    pages = [browse_page(Query(), registry=shelf, limit=1, page=n) for n in (1, 2, 3)]
    assert [p.total for p in pages] == [2, 2, 2]
    assert [[e.listing.name for e in p.entries] for p in pages] == [
        ["org/other-sw"],
        ["org/tiny-tr"],
        [],
    ]


def test_deprecated_adapters_are_shown_on_request(shelf: str) -> None:
    ftt_hub.deprecate("org/tiny-tr@v1.0.0", "broken", registry=shelf)
    assert names(registry=shelf) == ["org/other-sw"]
    assert names(registry=shelf, deprecated=True) == ["org/other-sw", "org/tiny-tr"]


def test_a_target_colours_the_rows(
    shelf: str, client: HubServer, family: TinyFamily, tmp_path: Path
) -> None:
    for target in (str(family.target), "org/target"):
        client.commit("org/target", {p.name: p.read_bytes() for p in family.target.iterdir()})
        found = {
            e.listing.name: e.compatibility for e in ftt_hub.browse(registry=shelf, target=target)
        }
        fits = {name: report.status for name, report in found.items() if report is not None}
        assert fits == {"org/other-sw": "warned", "org/tiny-tr": "accepted"}


def test_sorting_is_by_what_is_asked(client: HubServer, first: Path, second: Path) -> None:
    for name, folder, likes in (("org/a", first, 1), ("org/b", second, 9), ("org/c", first, 5)):
        publish(folder, name, version="1.0.0")
        client.set_likes(name, likes)
        client.set_downloads(name, 10 - likes)
    assert names(sort="name") == ["org/a", "org/b", "org/c"]
    assert names(sort="likes") == ["org/b", "org/c", "org/a"]
    assert names(sort="downloads") == ["org/a", "org/c", "org/b"]
    assert names(sort="updated") == ["org/c", "org/b", "org/a"]
    assert names(sort="size")[-1] == "org/b"
    with pytest.raises(FttError, match="no such page or order"):
        names(sort="colour")


def copies(folder: Path, count: int) -> dict[str, dict[str, bytes]]:
    """Many repositories with an adapter's manifest and card."""
    config: AdapterConfig = read_config(folder)
    manifest, text = (folder / "adapter_config.json").read_bytes(), card.render(config)
    front, body = split_card(text.encode())
    front["ftt_hub"] = {"versions": ["v1.0.0"]}
    readme = f"---\n{yaml.safe_dump(front)}---\n{body}".encode()
    return {
        f"org/m{n:04}": {"adapter_config.json": manifest, "README.md": readme} for n in range(count)
    }


@pytest.mark.slow
def test_five_thousand_adapters_are_listed_in_two_seconds(client: HubServer, first: Path) -> None:
    client.bulk_seed(copies(first, 5000))
    client.requests.clear()
    browse_page(Query(search="m4999"))  # the server parses its cards once
    client.requests.clear()
    began = time.process_time()  # the server's work included, other processes' not
    page = browse_page(Query(language="tr"), limit=20, page=3)
    seconds = time.process_time() - began
    assert (page.total, len(page.entries)) == (5000, 20)
    assert page.entries[0].listing.name == "org/m0040"
    assert len(client.requests.where("GET", "/api/models$")) == 5
    assert len(client.requests) == 5 + 20
    client.requests.clear()
    browse_page(Query(language="tr"), limit=20, page=3)
    assert len(client.requests) == 5  # manifests are kept by commit
    assert seconds < 2


HOSTILE_CARDS = [
    b"---\nftt_hub: {versions: [v1.0.0, 7, {}], deprecated: [1]}\nbase_model: [1]\n---\n",
    b"---\nbase_model: {a: 1}\nlanguage: 5\ndatasets: {}\nftt_hub: 3\n---\n",
    b"---\nftt_hub: {versions: v1, deprecated: {v1.0.0: x}}\nbase_model: x\n---\n",
    b"---\n: : :\n---\n",
    b"<script>alert(1)</script>",
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("text", HOSTILE_CARDS, ids=range(len(HOSTILE_CARDS)))
@pytest.mark.filterwarnings("ignore:left out")
def test_a_hostile_card_hurts_nobody_else(client: HubServer, first: Path, text: bytes) -> None:
    publish(first, "org/good", version="1.0.0")
    files = {p.name: p.read_bytes() for p in first.iterdir()}
    client.commit("org/bad", {**files, "README.md": text})
    assert "org/good" in names()
    assert "org/good" in names(language="tr", dataset="org/corpus")
    assert ftt_hub.pull("org/bad").folder.is_dir()


HOSTILE_MANIFESTS = [
    b"",
    b"[]",
    b"null",
    b"\x00" * 70_000,
    b'{"peft_type": "TRANSFER"}',
    b"[" * 60_000,
    b'{"peft_type": "TRANSFER", "files": {"../../x": {"size": 1, "sha256": "0"}}}',
]


@pytest.mark.parametrize("data", HOSTILE_MANIFESTS, ids=range(len(HOSTILE_MANIFESTS)))
def test_a_hostile_manifest_is_left_out_with_a_note(
    client: HubServer, first: Path, data: bytes
) -> None:
    publish(first, "org/good", version="1.0.0")
    readme = b"---\ntags: [ftt-hub]\nbase_model: org/base-v1\nftt_hub: {versions: []}\n---\n"
    client.commit("org/bad", {"README.md": readme, "adapter_config.json": data})
    with pytest.warns(UserWarning, match="left out org/bad"):
        assert names() == ["org/good"]
    with pytest.raises(FttError):
        ftt_hub.pull("org/bad")


def test_the_card_on_the_hub_carries_what_it_indexes(client: HubServer, first: Path) -> None:
    publish(first, "org/tiny-tr", version="1.0.0")
    front, body = split_card(client.read("org/tiny-tr", "README.md"))
    assert front["tags"] == ["ftt-hub", "transfer-adapter", "diff-vector"]
    assert front["language"] == ["tr", "de-at"]
    assert (front["base_model"], front["base_model_relation"]) == ("org/base-v1", "adapter")
    assert (front["license"], front["datasets"]) == ("apache-2.0", ["org/corpus", "org/more"])
    assert front["ftt_hub"] == {"versions": ["v1.0.0"]}
    tags = client._repo("org/tiny-tr").head.tags
    assert {
        "ftt-hub",
        "tr",
        "license:apache-2.0",
        "dataset:org/corpus",
        "base_model:adapter:org/base-v1",
    } <= set(tags)
    assert "your-namespace" not in body


def test_extra_files_of_a_repository_are_not_downloaded(client: HubServer, first: Path) -> None:
    publish(first, "org/tiny-tr", version="1.0.0")
    client.commit("org/tiny-tr", {"pytorch_model.bin": b"\x80evil" * 1000, "config.json": b"{}"})
    folder = ftt_hub.pull("org/tiny-tr").folder
    listed = {*read_config(first).files, "adapter_config.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == listed


def test_versions_and_deprecation_need_a_name_a_version_and_a_reason(
    client: HubServer, first: Path
) -> None:
    publish(first, "org/tiny-tr", version="1.0.0")
    for ref, reason in (("org/tiny-tr", "x"), ("org/tiny-tr@v1.0.0", "  "), (str(first), "x")):
        with pytest.raises(FttError):
            ftt_hub.deprecate(ref, reason)
    with pytest.raises(FttError, match="no such successor"):
        ftt_hub.deprecate("org/tiny-tr@v1.0.0", "x", successor="7.0.0")
    assert HubRegistry().versions("org/tiny-tr")[0].deprecated is None


def test_a_manifest_is_read_by_one_request(client: HubServer, first: Path) -> None:
    publish(first, "org/tiny-tr", version="1.0.0")
    client.requests.clear()
    assert names() == ["org/tiny-tr"]
    assert [r.path.split("/")[-1] for r in client.requests] == ["models", "adapter_config.json"]
    assert json.loads(client.read("org/tiny-tr", "adapter_config.json"))


@pytest.mark.parametrize(
    ("given", "front"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("llama3.1", {"license": "llama3.1"}),
        ("My Licence, v2", {"license": "other", "license_name": "my-licence-v2"}),
    ],
)
def test_a_licence_is_written_as_the_hub_takes_it_and_found_as_it_was_given(
    client: HubServer, family: TinyFamily, tmp_path: Path, given: str, front: dict[str, str]
) -> None:
    from ftt_hub.extraction.builder import Provenance

    provenance = Provenance(license=given, source_id="org/base", fine_tuned_id="org/tuned")
    ftt_hub.extract(family.source, family.tuned, tmp_path / "a", provenance=provenance)
    publish(tmp_path / "a", "org/a")
    card_front, _ = split_card(client.read("org/a", "README.md"))
    assert {k: v for k, v in card_front.items() if k.startswith("license")} == front
    assert names(license=given) == names(license=given.upper()) == ["org/a"]


def test_an_id_is_compared_with_the_hubs_hashes(
    client: HubServer, family: TinyFamily, tmp_path: Path
) -> None:
    from ftt_hub.extraction.builder import Provenance

    client.commit("org/base", {p.name: p.read_bytes() for p in family.source.iterdir()})
    right = Provenance(source_id="org/base", fine_tuned_id="org/never-published")
    ftt_hub.extract(family.source, family.tuned, tmp_path / "a", provenance=right)
    wrong = Provenance(source_id="org/base", fine_tuned_id="org/base")
    with pytest.warns(UserWarning, match="tuned is not org/base as it is on main"):
        ftt_hub.extract(family.source, family.tuned, tmp_path / "b", provenance=wrong)
