"""The read path against olah, a Hub server from PyPI: local git repositories, no listing, no push.

Needs `FTT_HUB_OLAH`, the Python of an environment with olah (`make test-olah` makes one).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_fixtures import adapters, first, second
from huggingface_hub import close_session, constants
from models import TinyFamily

import ftt_hub
from ftt_hub.artifact.manifest import read_config
from ftt_hub.errors import HubError, RefError
from ftt_hub.support.findings import CompatibilityReport

__all__ = ["adapters", "first", "second"]

PYTHON = os.environ.get("FTT_HUB_OLAH")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="FTT_HUB_OLAH is not set: run make test-olah"),
]


def commit_all(folder: Path) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"),
                    (*identity, "commit", "-q", "-m", "one"), ("tag", "v1.0.0")):  # fmt: skip
        subprocess.run(["git", *command], cwd=folder, check=True)


@pytest.fixture
def olah(
    tmp_path: Path, first: Path, family: TinyFamily, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    for name, folder in (("tiny-tr", first), ("target", family.target)):
        commit_all(Path(shutil.copytree(folder, tmp_path / "mirrors" / "models" / "org" / name)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "olah.toml").write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{tmp_path / "repos"}"\n'
        f'mirrors-path = ["{tmp_path / "mirrors"}"]\n[accessibility]\noffline = true\n'
    )
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "olah.server", "-c", tmp_path / "olah.toml"],
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(port)
        url, home = f"http://127.0.0.1:{port}", tmp_path / "home"
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in (
            ("ENDPOINT", url), ("HUGGINGFACE_CO_URL_TEMPLATE", template), ("HF_HOME", str(home)),
            ("HF_HUB_CACHE", str(home / "hub")), ("HF_HUB_OFFLINE", False),
        ):  # fmt: skip
            monkeypatch.setattr(constants, name, value)
        yield url
    finally:
        close_session()
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("olah did not start within 30 s")


def test_olah_is_read_like_the_hub(olah: str, first: Path, tmp_path: Path) -> None:
    pulled = ftt_hub.pull("org/tiny-tr@v1.0.0")
    assert read_config(pulled.folder) == read_config(first)
    assert [v.tag for v in ftt_hub.versions("org/tiny-tr")] == ["v1.0.0"]
    report = ftt_hub.verify("org/tiny-tr", "org/target")
    assert isinstance(report, CompatibilityReport)
    assert report.status == "accepted", report.verdict
    with pytest.warns(UserWarning, match="the server ignores ranges"):
        deep = ftt_hub.verify("org/tiny-tr", "org/target", depth="sketch")
    assert isinstance(deep, CompatibilityReport)
    assert deep.status == "accepted", deep.verdict
    ftt_hub.apply("org/tiny-tr", "org/target", tmp_path / "merged")
    with pytest.raises(RefError, match="no such repository"):
        ftt_hub.pull("org/nothing")
    with pytest.raises(HubError, match="the server does not list its models"):
        list(ftt_hub.browse())
