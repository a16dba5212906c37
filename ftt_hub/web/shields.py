"""What every answer carries: nothing may be loaded from elsewhere, and no host but ours is served.

The policy forbids the browser every request to a third party, whatever the page or a card holds.
Gradio's own scripts need `unsafe-inline` and `unsafe-eval`; texts of others never reach the page as
markup (`cards`, autoescaped templates).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
CLOSED = tuple(
    f"{root}/{name}"
    for root in ("", "/gradio_api")
    for name in ("upload", "file", "proxy=", "stream", "component_server", "monitoring")
)
"""What Gradio would answer and this page never asks for: uploads, files, requests to others."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def shielded(application: Application) -> Application:
    """The application, with the headers on every answer, and without what the page never needs."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if scope["type"] != "http":
            await application(scope, receive, send)
        elif str(scope["path"]).startswith(CLOSED):
            await _refuse(sending, 404, b"no such page\n")
        else:
            await application(_plain(scope), receive, sending)

    return guarded


def _plain(scope: Scope) -> Scope:
    """The request without `page`, which makes Gradio look for a page of that name, and fail."""
    parts = bytes(scope.get("query_string", b"")).split(b"&")
    kept = b"&".join(part for part in parts if not part.startswith(b"page="))
    return {**scope, "query_string": kept} if scope["path"] == "/" else scope


async def _refuse(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def only_hosts(application: Application, hosts: tuple[str, ...]) -> Application:
    """The application, answering only requests for these hosts.

    A page on loopback would else be open to any site whose name is made to point there.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host(scope) not in hosts:
            await _refuse(send, 421, b"not served under this name\n")
            return
        await application(scope, receive, send)

    return guarded


def _host(scope: Scope) -> str:
    raw = str(dict(scope["headers"]).get(b"host", b""), "latin-1").lower()
    return raw[1 : raw.find("]")] if raw.startswith("[") else raw.partition(":")[0]
