"""A registry with adapters worth looking at, and the page over it, served as a user serves it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_fixtures import environment
from hub_server import HubServer
from models import INNER, State, config, drifted, random_state, save_model

import ftt_hub
from ftt_hub import EvaluationResult
from ftt_hub.artifact.card_editing import joined_card, split_card
from ftt_hub.extraction.builder import Provenance

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'ftt-hub[web]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the tests of the page need playwright: pip install playwright"
)

LAYERS = 12
TARGET = "org/base-v2"
HOSTILE = """
# Nice <script>window.pwned = "script"</script>

<img src="x" onerror="window.pwned = 'img'"> <svg onload="window.pwned='svg'"></svg>
<iframe src="https://evil.example/frame"></iframe>

[click](javascript:window.pwned='link') and ![spy](https://evil.example/spy.png "t")

${window.pwned = 'template'} {{constructor.constructor('window.pwned=1')()}}

| a | b |
|---|---|
| <b onmouseover="window.pwned=1">x</b> | `</code></pre><script>window.pwned=2</script>` |
"""


def deep_state(seed: int) -> State:
    """Weights of a model of `LAYERS` layers."""
    state: State = {}
    for layer in range(0, LAYERS, 2):
        for name, tensor in random_state(seed * 100 + layer).items():
            parts = name.split(".")
            if parts[1] == "layers":
                parts[2] = str(int(parts[2]) + layer)
            state[".".join(parts)] = tensor
    return state


def tuned_state(source: State, seed: int) -> State:
    """A fine-tune that changes the middle layers and the feed-forward part most."""
    changed = drifted(source, seed, 1.0)
    result = {}
    for name, tensor in source.items():
        parts = name.split(".")
        layer = int(parts[2]) if parts[1] == "layers" else 0
        middle = 1 - abs(layer - LAYERS / 2) / LAYERS
        size = 0.004 * (0.2 + middle**2) * (1.8 if "mlp" in name else 1.0)
        result[name] = tensor + size * (changed[name] - tensor)
    return result


def widened(state: State) -> State:
    """The weights of a model with twice the feed-forward width, which fits no other here."""
    repeats = {"gate_proj": (2, 1), "up_proj": (2, 1), "down_proj": (1, 2)}
    found = {name: next((r for k, r in repeats.items() if k in name), None) for name in state}
    return {n: t if (r := found[n]) is None else t.repeat(*r) for n, t in state.items()}


@dataclass(frozen=True)
class Models:
    """Folders of the adapters, and of a target that fits most of them."""

    adapters: Mapping[str, Path]
    target: Path


def make_models(root: Path) -> Models:
    """Adapters from one deep family, one without a sketch, and one from another architecture."""
    source = deep_state(0)
    value = config(num_hidden_layers=LAYERS)
    base = save_model(root / "base", source, value)
    target = save_model(root / "target", drifted(source, 2, 0.02), value)
    made = {}
    for n, (name, tags, data, licence, method) in enumerate(
        (
            ("llama-tr", ["tr"], ["org/turkish-chat", "org/man-pages"], "apache-2.0", "SFT"),
            ("llama-de", ["de", "de-AT"], ["org/german-chat"], "cc-by-4.0", "DPO"),
            ("llama-math", ["en"], ["org/arithmetic"], "apache-2.0", "RLVR"),
        )
    ):
        tuned = save_model(root / name, tuned_state(source, n + 5), value)
        given = Provenance(
            languages=tags,
            datasets=data,
            license=licence,
            method=method,
            source_id="org/base-v1",
            fine_tuned_id=f"org/{name}",
        )
        made[name] = root / f"{name}-adapter"
        coding = "exact" if name != "llama-de" else "quantized"
        ftt_hub.extract(
            base, tuned, made[name], codec=coding, provenance=given, sketch=name != "llama-math"
        )
    other = Provenance(languages=("sw", "tr"), source_id="lab/wide", fine_tuned_id="lab/wide-sw")
    wide = config(intermediate_size=2 * INNER)
    pair = [save_model(root / f"wide{n}", widened(random_state(n)), wide) for n in (7, 8)]
    made["wide-sw"] = root / "wide-adapter"
    ftt_hub.extract(pair[0], pair[1], made["wide-sw"], provenance=other)
    return Models(made, target)


def publish_all(server: HubServer, models: Models) -> None:
    """Put everything on a Hub that the client of this process talks to."""
    folders = models.adapters
    ftt_hub.publish(folders["llama-tr"], "org/llama-tr", version="1.0.0")
    ftt_hub.publish(folders["llama-math"], "org/llama-tr", version="1.1.0")
    ftt_hub.publish(folders["llama-tr"], "org/llama-tr", version="1.2.0")
    ftt_hub.deprecate("org/llama-tr@v1.1.0", "trained on arithmetic by mistake")
    ftt_hub.record_evaluations(
        "org/llama-tr",
        [
            EvaluationResult(
                "text-generation",
                "org/turkish-chat",
                "perplexity",
                17.04,
                split="test",
                target="org/base-v2",
                metric_name="Perplexity",
            ),
            EvaluationResult("text-generation", "exams/tr", "accuracy", 0.4125, split="test"),
        ],
    )
    ftt_hub.publish(folders["llama-de"], "org/llama-de", version="0.9.0")
    ftt_hub.publish(folders["llama-math"], "org/llama-math", version="2.0.0")
    ftt_hub.publish(folders["wide-sw"], "lab/wide-sw", version="1.0.0")
    front, _ = split_card(server.read("lab/wide-sw", "README.md"))
    server.commit("lab/wide-sw", {"README.md": joined_card(front, HOSTILE)})
    server.commit(
        "org/llama-tr",
        {
            f"verified/{'a' * 40}.json": (
                b'{"target": "org/base-v2", "status": "accepted", "verdict": "compatible <b>x</b>"}'
            ),
            f"verified/{'b' * 40}.json": (
                b'{"target": "org/other-version", "status": "accepted", '
                b'"content_digest": "sha256:0"}'
            ),
        },
    )
    server.commit(TARGET, {p.name: p.read_bytes() for p in models.target.iterdir()})
    for likes, name in enumerate(("lab/wide-sw", "org/llama-de", "org/llama-tr")):
        server.set_likes(name, 4 * likes + 1)
        server.set_downloads(name, 37 * likes + 2)


@contextmanager
def page_of(variables: Mapping[str, str], *options: str) -> Iterator[str]:
    """`ftt-hub browse --web` in a process of its own; gives its address and ends it by Ctrl-C."""
    start = "from ftt_hub.cli.main import main; main()"
    program = [sys.executable, "-c", start, "browse", "--web", "--port", "0", *options]
    with subprocess.Popen(
        program, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://"), process.stderr.read()
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors, errors


def web_environment(server: HubServer, home: Path) -> dict[str, str]:
    """Variables of a page over the test server."""
    return environment(server, home, server.read_token)


@contextmanager
def page_within(registry: str) -> Iterator[str]:
    """The page in this process, over the client of this process."""
    import uvicorn

    from ftt_hub.web.page import application
    from ftt_hub.web.shields import shielded

    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = shielded(application(registry, folders=True))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(20)
