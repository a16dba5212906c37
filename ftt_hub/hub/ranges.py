"""Ranged reads: some kilobytes of a file on the Hub, kept by commit (`kept`)."""

from __future__ import annotations

import re
from pathlib import Path

from ftt_hub.errors import HubError, RefError
from ftt_hub.hub.client import api, refuse_offline
from ftt_hub.hub.failures import answered
from ftt_hub.hub.kept import keep, kept

SECONDS = 30.0
_SHA = re.compile(r"^[0-9a-f]{40}$")


class RangesIgnoredError(HubError):
    """The server sends whole files where a range was asked for."""


def _from_cache(name: str, commit: str, filename: str, start: int, length: int) -> bytes | None:
    """The range from what the Hub cache or an earlier ranged read holds."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, filename, revision=commit)
    try:
        if isinstance(path, str):
            with Path(path).open("rb") as file:
                file.seek(start)
                return file.read(length)
    except OSError:
        return None
    return kept(name, commit, filename, start, length)


def _request(name: str, revision: str, filename: str, start: int, length: int) -> bytes:
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

    client = api()
    url = hf_hub_url(name, filename, revision=revision, endpoint=client.endpoint)
    headers = {
        **client._build_hf_headers(),  # noqa: SLF001 - the one way to the user's token
        "Range": f"bytes={start}-{start + length - 1}",
        "Accept-Encoding": "identity",
    }
    with get_session().stream("GET", url, headers=headers, timeout=SECONDS) as response:
        if response.status_code == 416:
            return b""
        hf_raise_for_status(response)
        if response.status_code != 206 and start > 0:
            raise RangesIgnoredError(
                "the server ignores ranges", where=f"{name}/{filename}", hint="Pull it whole."
            )
        data = bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) >= length:
                break
    return bytes(data[:length])


def read_range(name: str, commit: str, filename: str, start: int, length: int) -> bytes:
    """Bytes [start, start + length) of a file, fewer at its end.

    Never reads more than `length` bytes, whatever the server sends.

    Raises:
        RefError: No such repository, revision or file.
        RangesIgnoredError: The server sends whole files.
        HubError: The Hub does not answer, or offline mode is on and the range is not cached.
    """
    pinned = _SHA.match(commit) is not None
    if length <= 0:
        return b""
    if pinned:
        cached = _from_cache(name, commit, filename, start, length)
        if cached is not None:
            return cached
    refuse_offline(f"{name}/{filename}")
    data = answered(name, lambda: _request(name, commit, filename, start, length))
    if pinned:
        keep(name, commit, filename, start, data, length)
    return data


def read_file(name: str, commit: str, filename: str, limit: int) -> bytes | None:
    """A small file, up to `limit` + 1 bytes of it; ``None`` when the repository has none.

    Raises:
        RefError: No such repository or revision.
        HubError: The Hub does not answer, or offline mode is on and the file is not cached.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return read_range(name, commit, filename, 0, limit + 1)
    except RefError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):
            return None
        raise
