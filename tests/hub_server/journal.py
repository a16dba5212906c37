"""The log of all requests, so that tests can count requests and bytes."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass
class LoggedRequest:
    """One request and what became of it.

    Attributes:
        method: `GET`, `PUT`, ...
        path: as sent, with its percent escapes.
        query: as sent, without the question mark.
        range: the `Range` header, if any.
        status: of the answer; None if the connection was cut before one.
        sent: bytes of the response body that were handed to the socket.
        received: bytes of the request body that were read.
    """

    method: str
    path: str
    query: str
    range: str | None
    status: int | None = None
    sent: int = 0
    received: int = 0


class RequestLog:
    """All requests since the last `clear`, oldest first. Iteration gives copies.

    An entry is up to date before the client sees the bytes that it counts.
    """

    def __init__(self) -> None:
        self._entries: list[LoggedRequest] = []
        self._lock = threading.Lock()

    def open(self, entry: LoggedRequest) -> LoggedRequest:
        """Append an entry, which the server goes on updating."""
        with self._lock:
            self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def where(self, method: str | None = None, path_regex: str = "") -> list[LoggedRequest]:
        """Return the entries of a method (None: of all) whose path the regex is found in."""
        pattern = re.compile(path_regex)
        return [e for e in self if method in (None, e.method) and pattern.search(e.path)]

    @property
    def bytes_sent(self) -> int:
        """Bytes of all response bodies."""
        return sum(entry.sent for entry in self)

    @property
    def bytes_received(self) -> int:
        """Bytes of all request bodies."""
        return sum(entry.received for entry in self)

    def __iter__(self) -> Iterator[LoggedRequest]:
        with self._lock:
            return iter([replace(entry) for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)
