"""Errors of huggingface_hub and of its transport, as ours: one line with the next step.

=========================================  =====================================================
theirs                                     ours
=========================================  =====================================================
GatedRepoError                             RegistryError: the page to open, or the missing token
RepositoryNotFoundError                    RefError: spelling, or the missing token
RevisionNotFoundError, EntryNotFoundError  RefError
OfflineModeIsEnabled                       HubError: what is missing from the cache
401, 403                                   HubError: the token is missing, expired or read-only
409, 412                                   ExistsError, StaleParentError (both HubError)
429, 5xx                                   HubError: when to try again
httpx / httpx2 errors                      HubError: no answer, or cut off
OSError (cache, wrong size)                HubError, or OutputError for a full disk
KeyError and the like, in the client       HubError: the server is no Hub
=========================================  =====================================================
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from ftt_hub.errors import FttError, HubError, RefError, RegistryError
from ftt_hub.support.staging import output_error

T = TypeVar("T")

_log = logging.getLogger(__name__)

ATTEMPTS = 3
LONGEST_WAIT = 30.0
_NOT_UNDERSTOOD = (LookupError, TypeError, AttributeError, AssertionError)
"""What the client raises over an answer that lacks something, as poor servers give."""
_RETRIED = {429, 500, 502, 503, 504}


class StaleParentError(HubError):
    """The branch moved on between reading it and committing; nothing was written."""


class ExistsError(HubError):
    """A tag, branch or repository of that name exists already."""


@cache
def transport_errors() -> tuple[type[Exception], ...]:
    """Base classes of connection errors: httpx under huggingface_hub 1.x, httpx2 under 2.x."""
    from importlib import import_module
    from importlib.util import find_spec

    names = [name for name in ("httpx2", "httpx") if find_spec(name) is not None]
    modules = [import_module(name) for name in names]
    return tuple(error for m in modules for error in (m.HTTPError, m.InvalidURL, m.StreamError))


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _gated(name: str) -> FttError:
    page = f"{_endpoint()}/{name}"
    hint = (
        f"Accept its conditions at {page} with the account of your token."
        if _has_token()
        else f"Accept its conditions at {page}, then set HF_TOKEN or run hf auth login: "
        "no token is set."
    )
    return RegistryError("access is gated", where=name, hint=hint)


def _no_repository(name: str) -> FttError:
    hint = (
        "Check the spelling, and that the account of your token may see it."
        if _has_token()
        else "Check the spelling; for a private one set HF_TOKEN or run hf auth login: "
        "no token is set."
    )
    return RefError("no such repository on the Hub, or it is private", where=name, hint=hint)


def _status_error(name: str, status: int | None, message: str, wait: str | None) -> FttError:
    said = f" ({message[:160]})" if message else ""
    if status == 401:
        hint = (
            "The token is wrong or expired: make a new one, then set HF_TOKEN."
            if _has_token()
            else "No token is set: set HF_TOKEN or run hf auth login."
        )
        return HubError(f"the Hub does not know you{said}", where=name, hint=hint)
    if status == 403:
        hint = "Use a token that may write there: HF_TOKEN or hf auth login."
        return HubError(f"the token lacks the permission{said}", where=name, hint=hint)
    if status == 409:
        return ExistsError(f"exists already{said}", where=name)
    if status == 412:
        hint = "Run the command again."
        return StaleParentError("somebody else published meanwhile", where=name, hint=hint)
    if status == 429:
        hint = f"Try again in {wait} seconds." if wait else "Try again in some minutes."
        return HubError("too many requests", where=name, hint=hint)
    hint = "Try again later." if status is None or status >= 500 else "Check the request."
    return HubError(f"the Hub answered {status}{said}", where=name, hint=hint)


def _response_facts(error: BaseException) -> tuple[int | None, str, str | None]:
    """Status, the server's message and the seconds to wait of an HTTP error."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", {})
    said = headers.get("X-Error-Message") or getattr(error, "server_message", None)
    message = " ".join(str(said or "").split())
    wait = headers.get("Retry-After")
    return (
        getattr(response, "status_code", None),
        message,
        str(wait) if str(wait or "").isdecimal() else None,
    )


def _is_status_error(error: BaseException) -> bool:
    return getattr(getattr(error, "response", None), "status_code", None) is not None


def translation(error: BaseException, name: str) -> FttError:
    """Our error for one of theirs.

    Args:
        error: As raised by huggingface_hub.
        name: The repository concerned.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return _gated(name)
    if isinstance(error, errors.RepositoryNotFoundError):
        return _no_repository(name)
    if isinstance(error, errors.RevisionNotFoundError):
        hint = "List what there is with ftt-hub versions."
        return RefError("no such revision", where=name, hint=hint)
    if isinstance(error, errors.RemoteEntryNotFoundError):
        hint = "Is it a model or a transfer adapter?"
        return RefError("a file is missing there", where=name, hint=hint)
    if isinstance(error, errors.HFValidationError):
        return RefError("not a repository name", where=name, expected="namespace/name")
    return _unanswered(error, name)


def _unanswered(error: BaseException, name: str) -> FttError:
    """Our error where the Hub gave no usable answer."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(
            "not in the cache, and offline mode is on",
            where=name,
            hint="Unset HF_HUB_OFFLINE, or pull it while online.",
        )
    wrapped = error.__cause__ or error.__context__
    is_status = _is_status_error(error)
    if wrapped is not None and not is_status and isinstance(wrapped, foreign_errors()):
        return translation(wrapped, name)
    if isinstance(error, errors.LocalEntryNotFoundError | errors.RevisionResolutionError):
        hint = "Unset HF_HUB_OFFLINE and check the network, or pull it while online."
        return HubError("not in the cache, and the Hub does not answer", where=name, hint=hint)
    if is_status:
        return _status_error(name, *_response_facts(error))
    if isinstance(error, transport_errors()):
        return HubError(
            f"the Hub does not answer ({type(error).__name__})",
            where=name,
            hint="Check the network, HF_ENDPOINT and proxies, then run the command again.",
        )
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return output_error(error, Path(str(error.filename)))
    said = " ".join(str(error).split())[:160]
    if isinstance(error, _NOT_UNDERSTOOD):
        return HubError(
            f"the server's answer is not the Hub's ({type(error).__name__}: {said})",
            where=name,
            hint="Is HF_ENDPOINT a Hub-compatible server?",
        )
    return HubError(
        f"the transfer failed ({type(error).__name__}: {said})",
        where=name,
        hint="Run the command again: what has arrived is kept.",
    )


@cache
def foreign_errors() -> tuple[type[Exception], ...]:
    """All that huggingface_hub and its transport raise; ValueError for a card it refuses."""
    from huggingface_hub import errors

    return (
        *transport_errors(),
        errors.EntryNotFoundError,
        errors.RevisionResolutionError,
        errors.XetDownloadError,
        errors.SafetensorsParsingError,
        errors.NotASafetensorsRepoError,
        OSError,
        ValueError,
        RuntimeError,
        *_NOT_UNDERSTOOD,
    )


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the client's errors into ours; the body holds nothing but calls of the client.

    Raises:
        RefError: The repository, revision or file does not exist, or is private.
        RegistryError: Access is gated.
        HubError: The server or the network failed, refuses the token, or we are offline.
    """
    try:
        yield
    except foreign_errors() as error:
        raise translation(error, name) from error


def _wait_of(error: BaseException | None, attempt: int) -> float | None:
    """Seconds until a failed request may be repeated, ``None`` when that is of no use."""
    while error is not None and not _is_status_error(error):
        error = error.__cause__
    if error is None:
        return None
    status, _, wait = _response_facts(error)
    if status not in _RETRIED:
        return None
    return min(float(wait) if wait else 0.5 * 2**attempt, LONGEST_WAIT)


def answered(name: str, request: Callable[[], T]) -> T:
    """The answer to a request that changes nothing, repeated when the server is busy or ill.

    Raises:
        FttError: As `translated`.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            with translated(name):
                return request()
        except FttError as error:
            wait = _wait_of(error.__cause__, attempt)
            if wait is None:
                raise
            _log.info("%s: %s; trying again in %g s", name, error.what, wait)
            time.sleep(wait)
    with translated(name):
        return request()
