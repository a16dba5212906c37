"""Listing the Hub's models, a thousand per request, without trusting what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import HubError
from ftt_hub.hub.client import api, refuse_offline
from ftt_hub.hub.failures import answered

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PAGE = 1000
SECONDS = 60.0
_FIELDS = (
    "cardData",
    "downloads",
    "lastModified",
    "likes",
    "model-index",
    "private",
    "sha",
    "tags",
)


@dataclass(frozen=True)
class ModelSummary:
    """What a listing tells of one model; poor servers tell little.

    Attributes:
        name: ``namespace/name``.
        commit: Commit of its main branch, if told.
        tags: The Hub's tags; empty when the server has none.
        card: The front matter of its card, unchecked; ``None`` when not told.
        downloads: In the last month, if told.
        likes: If told.
        updated: ISO 8601, if told.
    """

    name: str
    commit: str | None
    tags: tuple[str, ...]
    card: Mapping[str, Any] | None
    downloads: int | None
    likes: int | None
    updated: str | None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _summary(item: object) -> ModelSummary | None:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return None
    tags, card, index = item.get("tags"), item.get("cardData"), item.get("model-index")
    if isinstance(card, dict) and index is not None:  # told beside the card it is taken from
        card = {"model-index": index, **card}
    return ModelSummary(
        item["id"],
        _text(item.get("sha")),
        tuple(t for t in tags if isinstance(t, str)) if isinstance(tags, list) else (),
        card if isinstance(card, dict) else None,
        _number(item.get("downloads")),
        _number(item.get("likes")),
        _text(item.get("lastModified")),
    )


def list_models(tag: str) -> Iterator[ModelSummary]:
    """All models with a tag; servers that ignore the filter give all their models.

    Raises:
        HubError: The Hub does not answer.
    """
    client = api()
    address: str | None = f"{client.endpoint}/api/models"
    query: dict[str, Any] | None = {"filter": tag, "limit": PAGE, "expand": list(_FIELDS)}
    seen = set()
    while address is not None and address not in seen:
        seen.add(address)
        items, address = _page(client, address, query)
        query = None
        yield from (summary for item in items if (summary := _summary(item)) is not None)


def _page(
    client: HfApi, address: str, query: dict[str, Any] | None
) -> tuple[list[object], str | None]:
    """The items of a page, and the address of the next one."""
    from huggingface_hub import get_session, hf_raise_for_status

    ours = address.startswith(f"{client.endpoint}/")  # the token goes nowhere else
    headers = client._build_hf_headers(token=None if ours else False)  # noqa: SLF001

    def request() -> tuple[object, str | None]:
        response = get_session().get(address, params=query, headers=headers, timeout=SECONDS)
        hf_raise_for_status(response)
        try:
            value = response.json()
        except ValueError:
            value = None
        return value, response.links.get("next", {}).get("url")

    refuse_offline("the Hub's listing")
    items, following = answered("the Hub", request)
    if not isinstance(items, list):
        raise HubError(
            "the server does not list its models",
            where=address,
            hint="Name adapters directly, or keep a registry in a folder.",
        )
    return items, following
