"""Serving the page: a port, an address to open, and an end on Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.util import find_spec

from ftt_hub.errors import FttError, MissingExtraError
from ftt_hub.support.paths import PathLike
from ftt_hub.web.shields import LOOPBACK, only_hosts, shielded

HOST, PORT = "127.0.0.1", 7860
_CLOSING_SECONDS = 1


def require_extra() -> None:
    """Refuse when the extra `web` is not installed.

    Raises:
        MissingExtraError: Names the command that installs it.
    """
    missing = [name for name in ("gradio", "markdown_it", "jinja2") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            "the page needs the extra web",
            found=f"no {', '.join(missing)}",
            hint="Install it with: pip install 'ftt-hub[web]'",
        )


def serve(
    *,
    host: str = HOST,
    port: int = PORT,
    registry: PathLike | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    On a loopback address a target may also be a local folder; on any other only a model's name on
    the Hub, so that visitors cannot look at the machine's disk.

    Args:
        host: Address to listen on.
        port: Port; 0 for any free one.
        registry: ``"hf"`` or a folder.
        ready: Called with the page's address as soon as it can be opened.

    Raises:
        MissingExtraError: The extra `web` is not installed.
        FttError: The address cannot be listened on.
    """
    require_extra()
    import uvicorn

    from ftt_hub.web.page import application

    local = host in LOOPBACK
    with _listening(host, port) as listener:
        number = int(listener.getsockname()[1])
        app = shielded(application(registry, folders=local))
        guarded = only_hosts(app, LOOPBACK) if local else app
        server = uvicorn.Server(
            uvicorn.Config(
                guarded,
                log_level="error",
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )
        if ready is not None:
            shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{number}/")
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return  # uvicorn closed everything and raised the signal again


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise FttError("no such address", where=host[:80], hint="Try --host 127.0.0.1.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise FttError(
            f"cannot listen there ({error.strerror or error})",
            where=f"{host}:{port}",
            hint="Choose another port with --port; 0 takes any free one.",
        ) from error
    return listener
