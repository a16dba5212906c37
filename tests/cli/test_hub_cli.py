"""A first session on the Hub through the command line, in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hub_fixtures import adapters, environment, first, second, server
from hub_server import HubServer
from models import TinyFamily

__all__ = ["adapters", "first", "second", "server"]


class Shell:
    """Runs ftt-hub against a server."""

    def __init__(self, server: HubServer, home: Path) -> None:
        self.server, self.home = server, home

    def __call__(
        self, *arguments: object, token: str | None = "hf_write", code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from ftt_hub.cli.main import main; main()",
                *map(str, arguments),
            ],
            env={**environment(self.server, self.home, token), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def shell(server: HubServer, tmp_path: Path) -> Shell:
    return Shell(server, tmp_path / "home")


@pytest.mark.slow
def test_a_session_from_push_to_deprecate(
    shell: Shell, server: HubServer, first: Path, second: Path, family: TinyFamily, tmp_path: Path
) -> None:
    name = "org/tiny-tr"
    empty = shell("browse")
    assert (empty.stdout, empty.stderr) == (
        "",
        "no adapter here yet; publish the first one: ftt-hub push FOLDER NAMESPACE/NAME\n",
    )
    plan = shell("push", first, name, "--version", "1.0.0", "--dry-run")
    assert "adapter_model.safetensors" in plan.stdout
    assert "nothing was sent" in plan.stderr
    assert name not in server._hub.repos
    pushed = shell("push", first, name, "--version", "1.0.0")
    assert pushed.stdout.split() == [f"{name}@v1.0.0", f"{server.url}/{name}/tree/v1.0.0"]
    again = shell("push", first, name, "--version", "1.0.0")
    assert "nothing to do: this content is published already" in again.stderr
    refused = shell("push", second, name, "--version", "1.0.0", code=1)
    assert refused.stderr.startswith(f"error: {name}@v1.0.0: this version is published")
    assert len(refused.stderr.splitlines()) == 1
    shell("push", second, name, "--version", "1.1.0", "--json")

    server.commit("org/target", {p.name: p.read_bytes() for p in family.target.iterdir()})
    server.commit("org/stranger", {p.name: p.read_bytes() for p in family.stranger.iterdir()})
    [row] = json.loads(shell("browse", "--target", "org/target", "--json").stdout)
    assert (row["name"], row["revision"], row["likes"]) == (name, "v1.1.0", 0)
    assert row["versions"] == ["v1.1.0", "v1.0.0"]
    assert row["compatibility"]["status"] == "warned"
    shell("verify", f"{name}@v1.0.0", "--target", "org/stranger", "--depth", "sketch", code=3)

    shell("deprecate", f"{name}@v1.0.0", "--reason", "trained on a bad split")
    listed = shell("versions", name)
    assert "trained on a bad split; use v1.1.0 instead" in " ".join(listed.stdout.split())
    pulled = shell("pull", f"{name}@v1.0.0", tmp_path / "out")
    assert pulled.stdout.strip() == str(tmp_path / "out")
    assert f"note: {name}@v1.0.0 is deprecated: trained on a bad split" in pulled.stderr
    assert (tmp_path / "out" / "adapter_config.json").read_bytes() == (
        first / "adapter_config.json"
    ).read_bytes()


@pytest.mark.slow
def test_failures_are_one_line_and_the_right_exit_code(
    shell: Shell, server: HubServer, first: Path
) -> None:
    server.create_repo("org/private", private=True)
    server.create_repo("org/gated", gated=True)
    cases = [
        (("pull", "org/private"), None, "no token is set"),
        (("pull", "org/gated"), "hf_stranger", f"Accept its conditions at {server.url}/org/gated"),
        (("push", first, "org/x", "--version", "1.0.0"), "hf_read", "read-only"),
        (("push", first, "org/x", "--version", "1.0.0"), "hf_expired", "wrong or expired"),
    ]
    for arguments, token, text in cases:
        done = shell(*arguments, token=token, code=1)
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    offline = shell("pull", "org/nowhere", code=1, HF_HUB_OFFLINE="1")
    assert "not in the cache, and offline mode is on" in offline.stderr
    server.stop()
    down = shell("browse", code=1)
    assert "the Hub does not answer (ConnectError)" in down.stderr
