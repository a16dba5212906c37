"""The real client pointed at the test server: fixtures that tests of the Hub import."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import HubServer
from huggingface_hub import close_session, constants, get_session
from models import TinyFamily
from registry_contract import make_adapters


@pytest.fixture(scope="module")
def adapters(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_adapters(tmp_path_factory.mktemp("adapters"), family)


@pytest.fixture
def first(adapters: tuple[Path, Path]) -> Path:
    return adapters[0]


@pytest.fixture
def second(adapters: tuple[Path, Path]) -> Path:
    return adapters[1]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as running:
        yield running
        close_session()


def connect(server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the client of this process at a server."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", server.write_token)
    monkeypatch.delenv("FTT_HUB_REGISTRY", raising=False)
    server.requests.clear()
    get_session()  # two threads that ask for the first one at once leak one of two (in 1.31)


@pytest.fixture
def client(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """The client of this process talks to the server, with a token that may write."""
    connect(server, tmp_path / "hf-home", monkeypatch)
    return server


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between retries, which are skipped."""
    waits: list[float] = []
    stub = SimpleNamespace(sleep=waits.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("huggingface_hub.utils._http.time", stub)
    monkeypatch.setattr("huggingface_hub.file_download.time", stub)
    monkeypatch.setattr("ftt_hub.hub.failures.time", stub)
    return waits


def environment(server: HubServer, home: Path, token: str | None) -> dict[str, str]:
    """Variables for a command line of its own that talks to the server."""
    import os

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "FTT_"))}
    mine = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return {**kept, **mine, **({} if token is None else {"HF_TOKEN": token})}
