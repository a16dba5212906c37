"""Paging by `Link: <…>; rel="next"`, as the Hub and GitHub do."""

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from .endpoint import origin
from .errors import HubError

T = TypeVar("T")


def page(request: Request, items: Sequence[T], size: int) -> tuple[Sequence[T], dict[str, str]]:
    """Return one page of the items and the headers that tell where the next one is.

    Raises:
        HubError: if the cursor or `limit` is none that this server gave or understands.
    """
    start = _natural(request, "cursor", 0)
    size = max(1, min(size, _natural(request, "limit", size)))
    stop = start + size
    if stop >= len(items):
        return items[start:], {}
    query = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
    query.append(("cursor", str(stop)))
    url = f"{origin(request)}{request.scope['path']}?{urlencode(query)}"
    return items[start:stop], {"Link": f'<{url}>; rel="next"'}


def _natural(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, str(default))
    if not value.isdecimal():
        raise HubError(f"Invalid {name}: {value}")
    return int(value)
