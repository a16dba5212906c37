"""Injected faults: what goes wrong, for which requests, how often."""

import asyncio
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from starlette.responses import JSONResponse
from starlette.types import Message

from .exchange import ConnectionGoneError, Exchange


class Action(Protocol):
    """What a fault does instead of, or around, the ordinary answer."""

    async def perform(self, exchange: Exchange) -> None:
        """Handle the request in the faulty way."""


@dataclass(frozen=True)
class Status:
    """Answers with a status code and nothing done; e.g. 429 with `Retry-After`, or 500."""

    code: int
    retry_after: int | None = None
    error_code: str | None = None

    async def perform(self, exchange: Exchange) -> None:
        """Read the request and answer with the error."""
        headers = {"X-Error-Message": "Injected fault"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.error_code is not None:
            headers["X-Error-Code"] = self.error_code
        await exchange.drain()
        response = JSONResponse({"error": "Injected fault"}, self.code, headers)
        await response(exchange.scope, exchange.receive, exchange.send)


@dataclass(frozen=True)
class Delay:
    """Waits before answering; `stop()` ends the wait."""

    seconds: float

    async def perform(self, exchange: Exchange) -> None:
        """Wait, then answer as usual."""
        await asyncio.sleep(self.seconds)
        await exchange.answer()


@dataclass(frozen=True)
class Drop:
    """Resets the connection in the middle of the request or the response body.

    Attributes:
        after: body bytes that still pass; None means half of the body.
        side: whose body. A cut request never reaches the server proper.
    """

    after: int | None = None
    side: Literal["request", "response"] = "response"

    async def perform(self, exchange: Exchange) -> None:
        """Let some bytes pass, then reset."""
        if self.side == "request":
            await _read_some(exchange, self.after)
            await exchange.cut(reset=True)
        await _cut_response(exchange, self.after, reset=True)


@dataclass(frozen=True)
class Truncate:
    """Closes the connection in an orderly way before `Content-Length` bytes were sent.

    Attributes:
        after: body bytes that are sent; None means half of the body.
    """

    after: int | None = None

    async def perform(self, exchange: Exchange) -> None:
        """Send some bytes, then close."""
        await _cut_response(exchange, self.after, reset=False)


@dataclass(frozen=True)
class Headers:
    """Replaces headers of the response, or adds them."""

    values: Mapping[str, str]

    async def perform(self, exchange: Exchange) -> None:
        """Answer with other headers."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._replaced(dict(message["headers"]))}
            await exchange.send(message)

        await exchange.answer(send=send)

    def _replaced(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        new = {name.lower().encode(): value.encode() for name, value in self.values.items()}
        return [*{**headers, **new}.items()]


@dataclass(frozen=True)
class WrongEtag:
    """Gives another entity tag than the content's, in `ETag` and `X-Linked-Etag`."""

    value: str = '"' + "0" * 40 + '"'

    async def perform(self, exchange: Exchange) -> None:
        """Answer with the wrong tag."""
        await Headers({"ETag": self.value, "X-Linked-Etag": self.value}).perform(exchange)


@dataclass(frozen=True)
class WrongSize:
    """Gives another size than the content's in `X-Linked-Size`, and to HEAD in `Content-Length`."""

    size: int

    async def perform(self, exchange: Exchange) -> None:
        """Answer with the wrong size."""
        values = {"X-Linked-Size": str(self.size)}
        if exchange.scope["method"] == "HEAD":
            values["Content-Length"] = str(self.size)
        await Headers(values).perform(exchange)


@dataclass(frozen=True)
class Corrupt:
    """Flips all bits of one byte of the body; its length stays right.

    Attributes:
        at: the byte's offset.
        side: whose body.
    """

    at: int = 0
    side: Literal["request", "response"] = "response"

    async def perform(self, exchange: Exchange) -> None:
        """Answer, or read, with one byte changed."""
        passed = 0

        def flipped(message: Message) -> Message:
            nonlocal passed
            body = bytearray(message.get("body", b""))
            if passed <= self.at < passed + len(body):
                body[self.at - passed] ^= 0xFF
            passed += len(body)
            return {**message, "body": bytes(body)} if body else message

        async def send(message: Message) -> None:
            await exchange.send(flipped(message))

        async def receive() -> Message:
            return flipped(await exchange.receive())

        if self.side == "request":
            await exchange.answer(receive=receive)
        else:
            await exchange.answer(send=send)


@dataclass
class Fault:
    """A rule: an action, and the requests that it strikes.

    Attributes:
        action: what goes wrong.
        method: None for every method.
        path: searched for in the path as sent, without the query.
        times: how often it strikes at most.
        skip: matching requests to leave alone first.
        hits: how often it has struck.
    """

    action: Action
    method: str | None
    path: re.Pattern[str]
    times: int
    skip: int
    hits: int = field(default=0)

    def strikes(self, method: str, path: str) -> bool:
        """Return whether this request is struck, and count it."""
        if self.hits >= self.times or self.method not in (None, method):
            return False
        if not self.path.search(path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Faults:
    """The faults in force; of several that match, the one added first strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        *,
        action: Action,
        method: str | None = None,
        path_regex: str = "",
        times: int = 1,
        skip: int = 0,
    ) -> Fault:
        """Add a fault for requests of a method (None: any) whose path the regex is found in."""
        fault = Fault(action, method, re.compile(path_regex), times, skip)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Action | None:
        """Return the action for a request, None if it is to be answered as usual."""
        with self._lock:
            for fault in self._faults:
                if fault.strikes(method, path):
                    return fault.action
        return None


async def _read_some(exchange: Exchange, after: int | None) -> None:
    length = int(dict(exchange.scope["headers"]).get(b"content-length", b"0"))
    wanted = length // 2 if after is None else after
    more = True
    while more and wanted > 0:
        message = await exchange.receive()
        wanted -= len(message.get("body", b""))
        more = message.get("more_body", False)


async def _cut_response(exchange: Exchange, after: int | None, *, reset: bool) -> None:
    """Pass on the start and `after` bytes of the body, then cut.

    A response without a body is cut before its headers.
    """
    start: Message | None = None
    left = after

    async def send(message: Message) -> None:
        nonlocal start, left
        if message["type"] == "http.response.start":
            start = message
            return
        body = message.get("body", b"")
        if start is not None:
            if left is None:
                left = int(dict(start["headers"]).get(b"content-length", b"0")) // 2
            if body and exchange.scope["method"] != "HEAD":
                await exchange.send(start)
            start = None
        left = left or 0
        if exchange.scope["method"] != "HEAD" and body[:left]:
            await exchange.send({**message, "body": body[:left], "more_body": True})
        left -= len(body)
        if left <= 0 or not message.get("more_body", False):
            await exchange.cut(reset=reset)

    await exchange.answer(send=send)
    raise ConnectionGoneError
