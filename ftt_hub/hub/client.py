"""The one huggingface_hub client that this package uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftt_hub.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def api() -> HfApi:
    """A client that honours HF_ENDPOINT, HF_TOKEN and offline mode, and says who is asking."""
    from huggingface_hub import HfApi, constants

    return HfApi(endpoint=constants.ENDPOINT, library_name="ftt-hub")


def refuse_offline(name: str) -> None:
    """Refuse a request where HF_HUB_OFFLINE forbids it; requests of our own need this check.

    Raises:
        HubError: Offline mode is on.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise HubError(
            "not in the cache, and offline mode is on",
            where=name,
            hint="Unset HF_HUB_OFFLINE, or pull it while online.",
        )
