"""What every registry promises: inherit `RegistryContract` and provide the `registry` fixture."""

from __future__ import annotations

import contextlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ftt_hub
from ftt_hub.artifact.card_editing import Deprecation
from ftt_hub.artifact.folder import check_adapter
from ftt_hub.artifact.manifest import read_config
from ftt_hub.errors import RefError, VersionExistsError
from ftt_hub.registry.abc import Registry
from ftt_hub.support.refs import Ref, parse_ref

NAME = "org/tiny-tr"


class RegistryContract:
    """The tests; `first` and `second` are adapter folders of different content."""

    @pytest.fixture
    def registry(self) -> Registry:
        raise NotImplementedError

    @staticmethod
    def digest(registry: Registry, ref: str) -> str:
        return read_config(registry.fetch(parse_ref(ref))[0]).content_digest

    def test_what_is_fetched_is_what_was_published(self, registry: Registry, first: Path) -> None:
        done = registry.publish(first, NAME, version="1.0.0")
        assert (done.ref, done.changed) == (f"{NAME}@v1.0.0", True)
        folder, pinned = registry.fetch(Ref(name=NAME, revision="v1.0.0"))
        assert check_adapter(folder) == read_config(first)
        for name in read_config(first).files:
            assert (folder / name).read_bytes() == (first / name).read_bytes()
        assert registry.fetch(Ref(name=NAME, revision=pinned)) == (folder, pinned)

    def test_the_same_content_again_is_a_no_op(self, registry: Registry, first: Path) -> None:
        done = registry.publish(first, NAME, version="1.0.0")
        again = registry.publish(first, NAME, version="v1.0.0")
        assert (again.ref, again.changed) == (done.ref, False)

    def test_without_a_version_too(self, registry: Registry, first: Path) -> None:
        done = registry.publish(first, NAME)
        again = registry.publish(first, NAME)
        assert (done.changed, again.changed) == (True, False)
        assert done.ref == again.ref

    def test_a_version_never_changes(self, registry: Registry, first: Path, second: Path) -> None:
        registry.publish(first, NAME, version="1.0.0")
        with pytest.raises(VersionExistsError, match=r"choose a higher version"):
            registry.publish(second, NAME, version="1.0.0")
        assert self.digest(registry, f"{NAME}@v1.0.0") == read_config(first).content_digest

    def test_versions_are_listed_by_number_newest_first(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        for version, folder in (("1.9.0", first), ("1.10.0", second), ("2.0.0", first)):
            registry.publish(folder, NAME, version=version)
        found = registry.versions(NAME)
        assert [v.tag for v in found] == ["v2.0.0", "v1.10.0", "v1.9.0"]
        assert all(v.published is not None and v.deprecated is None for v in found)

    def test_main_holds_the_newest_version_whatever_was_pushed_last(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        registry.publish(first, NAME, version="2.0.0")
        registry.publish(second, NAME, version="1.0.1")
        assert self.digest(registry, NAME) == read_config(first).content_digest
        assert self.digest(registry, f"{NAME}@v1.0.1") == read_config(second).content_digest
        [listing] = registry.listings()
        assert (listing.revision, listing.versions) == ("v2.0.0", ("v2.0.0", "v1.0.1"))
        assert listing.config == read_config(first)

    def test_a_version_without_some_files_does_not_keep_the_old_ones(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        dropped = set(read_config(first).files) - set(read_config(second).files)
        assert dropped
        registry.publish(first, NAME, version="1.0.0")
        registry.publish(second, NAME, version="1.1.0")
        folder, _ = registry.fetch(Ref(name=NAME))
        assert not [name for name in dropped if (folder / name).exists()]

    def test_a_preview_changes_nothing_and_tells_the_sizes(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        plan = registry.preview(first, NAME, version="1.0.0")
        assert plan.changed
        assert {f.name: f.size for f in plan.files}.items() >= {
            name: facts["size"] for name, facts in read_config(first).files.items()
        }.items()
        assert list(registry.listings()) == []
        registry.publish(first, NAME, version="1.0.0")
        again = registry.preview(first, NAME, version="1.0.0")
        assert (again.changed, again.sent) == (False, 0)
        with pytest.raises(VersionExistsError):
            registry.preview(second, NAME, version="1.0.0")

    def test_a_deprecated_version_loads_with_a_warning(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        registry.publish(first, NAME, version="1.0.0")
        registry.publish(second, NAME, version="1.1.0")
        reason = Deprecation("trained on a <bad> split", "v1.1.0")
        assert registry.deprecate(NAME, "v1.0.0", reason)
        assert not registry.deprecate(NAME, "v1.0.0", reason)
        with pytest.warns(UserWarning, match=r"trained on a <bad> split; use v1\.1\.0 instead"):
            folder, _ = registry.fetch(Ref(name=NAME, revision="v1.0.0"))
        assert read_config(folder) == read_config(first)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            registry.fetch(Ref(name=NAME, revision="v1.1.0"))
            registry.fetch(Ref(name=NAME))
        assert [v.deprecated for v in registry.versions(NAME)] == [None, reason]

    def test_a_deprecation_outlives_the_next_version(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        registry.publish(first, NAME, version="1.0.0")
        registry.deprecate(NAME, "v1.0.0", Deprecation("old"))
        registry.publish(second, NAME, version="1.1.0")
        assert [v.deprecated for v in registry.versions(NAME)] == [None, Deprecation("old")]

    def test_a_listing_shows_the_newest_version_that_is_not_deprecated(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        registry.publish(first, NAME, version="1.0.0")
        registry.publish(second, NAME, version="1.1.0")
        registry.deprecate(NAME, "v1.1.0", Deprecation("broken", "v1.0.0"))
        [listing] = registry.listings()
        assert (listing.revision, listing.deprecated) == ("v1.0.0", None)
        assert listing.config == read_config(first)
        registry.deprecate(NAME, "v1.0.0", Deprecation("broken, too"))
        [listing] = registry.listings()
        assert listing.revision == "v1.1.0"
        assert listing.deprecated == Deprecation("broken", "v1.0.0")

    def test_of_two_publishers_at_once_exactly_one_gets_the_version(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            together = threading.Barrier(2)
            won: list[Path] = []

            def publish(folder: Path) -> None:
                together.wait()  # noqa: B023 - the threads end within the round
                with contextlib.suppress(VersionExistsError):
                    registry.publish(folder, NAME, version=version)  # noqa: B023
                    won.append(folder)  # noqa: B023

            with ThreadPoolExecutor(2) as pool:
                list(pool.map(publish, (first, second)))
            assert len(won) == 1
            digest = read_config(won[0]).content_digest
            assert self.digest(registry, f"{NAME}@v{version}") == digest
            assert self.digest(registry, NAME) == digest

    def test_only_what_there_is_can_be_deprecated(self, registry: Registry, first: Path) -> None:
        registry.publish(first, NAME, version="1.0.0")
        with pytest.raises(RefError, match="no such version"):
            registry.deprecate(NAME, "v3.0.0", Deprecation("x"))
        with pytest.raises(RefError):
            registry.deprecate("org/nothing", "v1.0.0", Deprecation("x"))

    def test_the_card_names_the_repository(self, registry: Registry, first: Path) -> None:
        registry.publish(first, NAME, version="1.0.0")
        card = (registry.fetch(Ref(name=NAME))[0] / "README.md").read_text(encoding="utf-8")
        assert f'"{NAME}", base_model=' in card
        assert f"ftt-hub verify {NAME} " in card
        assert "your-namespace" not in card

    def test_what_is_not_there_is_named(self, registry: Registry, first: Path) -> None:
        with pytest.raises(RefError, match="org/nothing"):
            registry.fetch(Ref(name="org/nothing"))
        registry.publish(first, NAME, version="1.0.0")
        with pytest.raises(RefError, match="no such revision"):
            registry.fetch(Ref(name=NAME, revision="v9.9.9"))

    @pytest.mark.parametrize("name", ["plain", "../up/x", "a/b/c", "org/", "org/..", "-o/x"])
    def test_names_that_climb_or_confuse_are_refused(
        self, registry: Registry, first: Path, name: str
    ) -> None:
        with pytest.raises(RefError):
            registry.publish(first, name, version="1.0.0")

    def test_a_damaged_manifest_is_left_out_of_the_listing(
        self, registry: Registry, first: Path, second: Path
    ) -> None:
        registry.publish(first, NAME, version="1.0.0")
        self.plant_damaged(registry, "org/broken", first)
        with pytest.warns(UserWarning, match="left out org/broken"):
            assert [listing.name for listing in registry.listings()] == [NAME]

    def plant_damaged(self, registry: Registry, name: str, first: Path) -> None:
        """Put an adapter with a damaged manifest into the registry, past its checks."""
        raise NotImplementedError

    def test_an_empty_registry_lists_nothing(self, registry: Registry) -> None:
        assert list(registry.listings()) == []


def make_adapters(root: Path, family: object) -> tuple[Path, Path]:
    """Two adapters: one with every field filled, one without a sketch."""
    from models import TinyFamily

    from ftt_hub.extraction.builder import Provenance

    assert isinstance(family, TinyFamily)
    given = Provenance(
        languages=("tr", "de-AT"),
        datasets=("org/corpus", "org/more"),
        license="apache-2.0",
        source_id="org/base-v1",
        fine_tuned_id="org/base-v1-tr",
    )
    ftt_hub.extract(family.source, family.tuned, root / "first", provenance=given)
    other = Provenance(languages=("sw",), source_id="org/base-v1", fine_tuned_id="org/sw")
    ftt_hub.extract(family.source, family.target, root / "second", provenance=other, sketch=False)
    return root / "first", root / "second"
