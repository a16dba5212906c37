"""The Hugging Face Hub as a registry: an adapter is a model repository, a version is a tag."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from ftt_hub import hub
from ftt_hub.config import CONFIG_NAME, AdapterConfig, parse_config, read_config
from ftt_hub.errors import FttError, RefError, VersionExistsError
from ftt_hub.refs import Ref, is_repository_name, version_tag
from ftt_hub.registry.abc import Listing, Publication

_TAG = re.compile(r"^v\d+\.\d+\.\d+$")


def _remote_config(name: str, commit: str) -> AdapterConfig | None:
    path = hub.download_file(name, commit, CONFIG_NAME)
    return None if path is None else parse_config(path.read_bytes(), f"{name}/{CONFIG_NAME}")


class HubRegistry:
    """Adapters on the Hub; honours HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE."""

    def publish(
        self, folder: Path, name: str, *, version: str | None = None, private: bool = False
    ) -> Publication:
        """See `Registry.publish`: one commit, then the tag."""
        if not is_repository_name(name):
            raise RefError("not a repository name", where=name[:200], expected="namespace/name")
        config = read_config(folder)
        tag = None if version is None else version_tag(version)
        head = hub.head_commit(name)
        if head is None:
            hub.create_repository(name, private=private)
            head = hub.head_commit(name)
        tags = hub.version_tags(name)
        if tag in tags:
            held = _remote_config(name, tags[tag])
            if held is None or held.content_digest != config.content_digest:
                raise VersionExistsError(
                    "this version is published with other content",
                    where=f"{name}@{tag}",
                    hint="Published versions never change: choose a higher version.",
                )
            return Publication(f"{name}@{tag}", False, hub.page_address(name, tag))
        held = None if head is None else _remote_config(name, head)
        changed = held is None or held.content_digest != config.content_digest
        commit = self._commit(folder, name, config, tag, head) if changed or head is None else head
        if tag is not None:
            hub.create_tag(name, tag, commit)
        pinned = tag or commit
        return Publication(
            f"{name}@{pinned}", changed or tag is not None, hub.page_address(name, pinned)
        )

    @staticmethod
    def _commit(
        folder: Path, name: str, config: AdapterConfig, tag: str | None, head: str | None
    ) -> str:
        names = [*config.files, CONFIG_NAME, "README.md"]
        files = {n: folder / n for n in names if (folder / n).is_file()}
        message = f"Publish {tag}" if tag else "Publish a transfer adapter"
        return hub.commit_files(name, files, message, head)

    def fetch(self, ref: Ref) -> tuple[Path, str]:
        """See `Registry.fetch`."""
        name = ref.name or ""
        commit = hub.resolve_commit(name, ref.revision)
        return hub.download_adapter(name, commit), commit

    def listings(self) -> Iterator[Listing]:
        """See `Registry.listings`; reads one manifest an adapter."""
        for name in hub.list_adapters():
            try:
                tags = hub.version_tags(name)
                versions = sorted(
                    (t for t in tags if _TAG.match(t)),
                    key=lambda t: tuple(int(n) for n in t[1:].split(".")),
                    reverse=True,
                )
                revision = versions[0] if versions else "main"
                config = _remote_config(name, tags.get(revision) or hub.resolve_commit(name, None))
            except FttError as error:
                warnings.warn(f"left out {name}: {error}", stacklevel=2)
                continue
            if config is not None:
                yield Listing(name, revision, tuple(versions), config, None)
