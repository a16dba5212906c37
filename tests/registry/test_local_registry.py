"""The folder registry: immutable versions, atomic for readers, safe for two publishers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from models import TinyFamily, drifted, random_state, save_model

import ftt_hub
from ftt_hub.errors import (
    IntegrityError,
    OutputError,
    RefError,
    RegistryError,
    VersionExistsError,
)
from ftt_hub.extraction.builder import Provenance
from ftt_hub.registry.abc import Publication
from ftt_hub.registry.local import LocalRegistry

NAME = "me/llama-tr"


@pytest.fixture(scope="module")
def adapters(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters with different content."""
    root = tmp_path_factory.mktemp("adapters")
    other = save_model(root / "f", drifted(random_state(0), 7, 0.01))
    first, second = root / "one", root / "two"
    facts = Provenance(languages=["tr"], datasets=["me/chat"], license="apache-2.0")
    ftt_hub.extract(family.source, family.tuned, first, provenance=facts)
    ftt_hub.extract(family.source, other, second, provenance=Provenance(languages=["si", "tr-TR"]))
    return first, second


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    return LocalRegistry(tmp_path / "registry")


def publish(registry: LocalRegistry, folder: Path, version: str | None) -> Publication:
    return ftt_hub.publish(folder, NAME, version=version, registry=registry.root)


def content(ref: str, registry: LocalRegistry) -> str:
    return ftt_hub.TransferAdapter.from_pretrained(
        ref, registry=registry.root
    ).config.content_digest


def test_versions_and_main_are_found(registry: LocalRegistry, adapters: tuple[Path, Path]) -> None:
    assert publish(registry, adapters[0], "1.0.0").ref == f"{NAME}@v1.0.0"
    publish(registry, adapters[1], "v1.1.0")
    first, second = (
        ftt_hub.TransferAdapter.from_pretrained(a).config.content_digest for a in adapters
    )
    assert content(f"{NAME}@v1.0.0", registry) == first
    assert content(f"{NAME}@v1.1.0", registry) == content(f"{NAME}@main", registry) == second
    assert content(NAME, registry) == second
    assert content(f"{NAME}@{first.removeprefix('sha256:')[:12]}", registry) == first


def test_a_patch_of_an_old_version_does_not_move_main(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    publish(registry, adapters[0], "2.0.0")
    publish(registry, adapters[1], "1.0.1")
    assert content(NAME, registry) == content(f"{NAME}@v2.0.0", registry)


def test_the_same_content_again_is_no_change(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    assert publish(registry, adapters[0], "1.0.0").changed
    assert not publish(registry, adapters[0], "1.0.0").changed


def test_a_published_version_never_changes(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    publish(registry, adapters[0], "1.0.0")
    with pytest.raises(VersionExistsError, match="choose a higher version"):
        publish(registry, adapters[1], "1.0.0")
    assert content(f"{NAME}@v1.0.0", registry) == content(str(adapters[0]), registry)


def test_a_damaged_folder_is_not_published(
    registry: LocalRegistry, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    damaged = shutil.copytree(adapters[0], tmp_path / "damaged")
    with (damaged / "sketch.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(IntegrityError):
        publish(registry, damaged, "1.0.0")
    assert not registry.root.exists()


@pytest.mark.parametrize("name", ["plain", "a/b/c", "../x", "a/..", "a/.hidden", "a b/c", "/a/b"])
def test_names_that_leave_the_registry_are_refused(
    registry: LocalRegistry, adapters: tuple[Path, Path], name: str
) -> None:
    with pytest.raises(RefError):
        ftt_hub.publish(adapters[0], name, registry=registry.root)
    assert not registry.root.exists()


@pytest.mark.parametrize("revision", ["v9.9.9", "nope", "../main", "0" * 64, "deadbeef"])
def test_unknown_revisions_are_named(
    registry: LocalRegistry, adapters: tuple[Path, Path], revision: str
) -> None:
    publish(registry, adapters[0], "1.0.0")
    with pytest.raises(RefError):
        content(f"{NAME}@{revision}", registry)


@pytest.mark.parametrize("version", ["1", "1.0", "latest", "1.0.0-rc1", "01.0.0", "1.0.0/x"])
def test_only_semantic_versions_are_accepted(
    registry: LocalRegistry, adapters: tuple[Path, Path], version: str
) -> None:
    with pytest.raises(RefError, match="not a version"):
        publish(registry, adapters[0], version)


def test_private_is_refused_where_it_means_nothing(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    with pytest.raises(RegistryError, match="permissions"):
        ftt_hub.publish(adapters[0], NAME, private=True, registry=registry.root)


def test_a_ref_that_points_astray_is_ignored(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    publish(registry, adapters[0], "1.0.0")
    (registry.root / NAME / "refs" / "v2.0.0").write_text("../../../../etc")
    with pytest.raises(RefError):
        content(f"{NAME}@v2.0.0", registry)


def test_a_damaged_adapter_is_left_out_of_the_list_with_a_note(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    publish(registry, adapters[0], "1.0.0")
    ftt_hub.publish(adapters[1], "me/other", version="1.0.0", registry=registry.root)
    home = next((registry.root / NAME / "content").iterdir())
    (home / "adapter_config.json").write_text("{}")
    with pytest.warns(UserWarning, match="left out me/llama-tr"):
        found = [entry.listing.name for entry in ftt_hub.browse(registry=registry.root)]
    assert found == ["me/other"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["me/llama-tr", "me/other"]),
        ({"language": "tr"}, ["me/llama-tr", "me/other"]),
        ({"language": "TR-tr"}, ["me/other"]),
        ({"language": "si"}, ["me/other"]),
        ({"language": "t"}, []),
        ({"dataset": "me/chat"}, ["me/llama-tr"]),
        ({"source_base": "source"}, ["me/llama-tr", "me/other"]),
        ({"source_base": "other"}, []),
        ({"search": "APACHE"}, ["me/llama-tr"]),
        ({"language": "si", "dataset": "me/chat"}, []),
    ],
)
def test_browsing_finds_by_every_filter(
    registry: LocalRegistry,
    adapters: tuple[Path, Path],
    filters: dict[str, str],
    names: list[str],
) -> None:
    publish(registry, adapters[0], "1.0.0")
    ftt_hub.publish(adapters[1], "me/other", registry=registry.root)
    found = [e.listing.name for e in ftt_hub.browse(registry=registry.root, **filters)]
    assert found == names


def test_browsing_with_a_target_tells_the_fit(
    registry: LocalRegistry, adapters: tuple[Path, Path], family: TinyFamily
) -> None:
    publish(registry, adapters[0], "1.0.0")
    (entry,) = ftt_hub.browse(registry=registry.root, target=family.target)
    assert entry.compatibility is not None
    assert entry.compatibility.status == "accepted"


def test_two_publishers_at_once_leave_one_version(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    code = "from ftt_hub.cli.main import main; main()"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, "push", folder, NAME, "--version", "1.0.0",
             "--registry", registry.root],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for folder in (*adapters, *adapters)
    ]  # fmt: skip
    errors = [process.communicate()[1] for process in running]
    codes = [process.returncode for process in running]
    assert sorted(codes) == [0, 0, 1, 1], errors
    assert all("choose a higher version" in e for e, c in zip(errors, codes, strict=True) if c)
    adapter = ftt_hub.TransferAdapter.from_pretrained(f"{NAME}@v1.0.0", registry=registry.root)
    ftt_hub.verify(adapter.folder)
    assert not list(registry.root.rglob("*.partial"))


def test_a_registry_that_cannot_be_written_is_named(adapters: tuple[Path, Path]) -> None:
    with pytest.raises(OutputError, match="/proc/registry"):
        ftt_hub.publish(adapters[0], NAME, registry="/proc/registry")


def test_a_registry_can_be_read_without_write_permission(
    registry: LocalRegistry, adapters: tuple[Path, Path]
) -> None:
    publish(registry, adapters[0], "1.0.0")
    paths = [registry.root, *registry.root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        if os.geteuid() == 0:  # root may write anyway: at least nothing must change
            before = sorted(registry.root.rglob("*"))
        content(f"{NAME}@v1.0.0", registry)
        if os.geteuid() == 0:
            assert sorted(registry.root.rglob("*")) == before
    finally:
        for path in paths:
            path.chmod(0o755)


def test_pulling_copies_a_checked_adapter(
    registry: LocalRegistry, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    publish(registry, adapters[0], "1.0.0")
    pulled = ftt_hub.pull(f"{NAME}@v1.0.0", tmp_path / "copy", registry=registry.root)
    assert pulled.revision == "v1.0.0"
    for path in adapters[0].iterdir():
        if path.name != "README.md":
            assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()
    assert json.loads((tmp_path / "copy" / "adapter_config.json").read_text())["num_slots"] > 1
