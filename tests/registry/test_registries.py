"""The folder and the Hub keep the same promises (`RegistryContract`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_fixtures import adapters, client, first, naps, second, server
from hub_server import HubServer
from registry_contract import RegistryContract

from ftt_hub.registry.abc import Registry
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.local import LocalRegistry

__all__ = ["adapters", "client", "first", "naps", "second", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def damaged(folder: Path) -> bytes:
    value = json.loads((folder / "adapter_config.json").read_bytes())
    return json.dumps({**value, "num_slots": 7}).encode()


class TestLocalRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Registry:
        return LocalRegistry(tmp_path / "registry")

    def plant_damaged(self, registry: Registry, name: str, first: Path) -> None:
        assert isinstance(registry, LocalRegistry)
        registry.publish(first, name)
        [manifest] = (registry.root / name / "content").glob("*/adapter_config.json")
        manifest.write_bytes(damaged(first))


class TestHubRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, client: HubServer) -> Registry:
        self.server = client
        return HubRegistry()

    def container_bytes_read(self, registry: Registry) -> int:
        return self.server.requests.bytes_sent

    def plant_damaged(self, registry: Registry, name: str, first: Path) -> None:
        files = {p.name: p.read_bytes() for p in first.iterdir()}
        self.server.commit(name, {**files, "adapter_config.json": damaged(first)})


class TestPoorHub(TestHubRegistry):
    """A Hub-compatible server that ignores filters and tells no tags and no card data."""

    @pytest.fixture
    def registry(self, client: HubServer) -> Registry:
        self.server = client
        client.settings.ignore_filters = client.settings.bare_listing = True
        client.commit("other/lora", {"adapter_config.json": b'{"peft_type": "LORA"}'})
        client.commit("other/model", {"config.json": b"{}"})
        return HubRegistry()
