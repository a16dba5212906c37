"""Every error of the client and of its transport comes out as one of ours, with the next step."""

from __future__ import annotations

import errno
import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hub_fixtures import adapters, client, first, naps, second, server
from hub_server import Account, Corrupt, Delay, Drop, HubServer, Status, Truncate, WrongSize
from huggingface_hub import errors

import ftt_hub
from ftt_hub.errors import (
    FttError,
    HubError,
    IntegrityError,
    OutputError,
    RefError,
    RegistryError,
    VersionExistsError,
)
from ftt_hub.hub import ExistsError, StaleParentError, translated
from ftt_hub.registry import hub_push
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.push import publish

__all__ = ["adapters", "client", "first", "naps", "second", "server"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

httpx = importlib.import_module("httpx2" if version("huggingface_hub") >= "2" else "httpx")
REQUEST = httpx.Request("GET", "http://hub.invalid/org/name")


def answer(status: int, kind: type[Exception] = errors.HfHubHTTPError, **headers: str) -> Exception:
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    response = httpx.Response(status, request=REQUEST, headers=fields)
    return kind("text", response=response)  # type: ignore[call-arg]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


TABLE: list[tuple[Exception, type[FttError], str]] = [
    (answer(403, errors.GatedRepoError), RegistryError, "access is gated.*then set HF_TOKEN"),
    (answer(404, errors.RepositoryNotFoundError), RefError, "no such repository.*no token is set"),
    (answer(404, errors.RevisionNotFoundError), RefError, "no such revision"),
    (answer(404, errors.RemoteEntryNotFoundError), RefError, "a file is missing there"),
    (answer(400, errors.BadRequestError), HubError, "the Hub answered 400"),
    (answer(403, errors.DisabledRepoError), HubError, "403|permission"),
    (answer(401), HubError, "does not know you.*HF_TOKEN"),
    (answer(403, X_Error_Message="read-only"), HubError, "lacks the permission .read-only."),
    (answer(409), ExistsError, "exists already"),
    (answer(412), StaleParentError, "somebody else published"),
    (answer(429, Retry_After="33"), HubError, "too many requests. Try again in 33 seconds"),
    (answer(429), HubError, "too many requests"),
    (answer(500), HubError, "answered 500. Try again later"),
    (answer(503), HubError, "answered 503"),
    (errors.OfflineModeIsEnabled("x"), HubError, "offline mode is on.*HF_HUB_OFFLINE"),
    (errors.HFValidationError("x"), RefError, "not a repository name"),
    (errors.LocalEntryNotFoundError("x"), HubError, "not in the cache"),
    (errors.EntryNotFoundError("x"), HubError, "the transfer failed"),
    (errors.RevisionResolutionError("x"), HubError, "not in the cache"),
    (errors.FileMetadataError("no ETag"), HubError, "the transfer failed .FileMetadataError"),
    (errors.XetDownloadError("x"), HubError, "the transfer failed"),
    (errors.SafetensorsParsingError("x"), HubError, "the transfer failed"),
    (errors.NotASafetensorsRepoError("x"), HubError, "the transfer failed"),
    (errors.LocalTokenNotFoundError("x"), HubError, "the transfer failed"),
    (OSError("Consistency check failed"), HubError, "the transfer failed .OSError: Consistency"),
    (OSError(errno.ENOSPC, "full", "/cache/x"), OutputError, "the disk is full"),
    (KeyError("user"), HubError, "the server's answer is not the Hub's"),
    (AssertionError("no sha"), HubError, "Is HF_ENDPOINT a Hub-compatible server"),
    (ValueError("bad card"), HubError, "bad card"),
    (RuntimeError("Error while uploading"), HubError, "Error while uploading"),
    (caused(RuntimeError("upload"), answer(403)), HubError, "lacks the permission"),
    (caused(errors.LocalEntryNotFoundError("x"), httpx.ConnectError("refused")), HubError,
     "does not answer .ConnectError"),
    (caused(errors.RevisionResolutionError("x"), answer(500)), HubError, "answered 500"),
]  # fmt: skip


def transport_kinds() -> list[type[Exception]]:
    """Every error class that the transport exports."""
    kinds = [getattr(httpx, name) for name in httpx.__all__]
    found = [k for k in kinds if isinstance(k, type) and issubclass(k, Exception)]
    return [k for k in found if not issubclass(k, httpx.CookieConflict | Warning)]


@pytest.mark.parametrize(
    ("theirs", "kind", "pattern"), TABLE, ids=[f"{type(e).__name__}-{p[:20]}" for e, _, p in TABLE]
)
def test_errors_of_the_client_are_ours(
    theirs: Exception, kind: type[FttError], pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(kind, match=pattern) as caught, translated("org/name"):
        raise theirs
    assert type(caught.value) is kind
    assert caught.value.__cause__ is theirs
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", transport_kinds(), ids=lambda k: k.__name__)
def test_errors_of_the_transport_are_ours(kind: type[Any]) -> None:
    if issubclass(kind, httpx.HTTPStatusError):
        error = kind("x", request=REQUEST, response=httpx.Response(502, request=REQUEST))
    elif kind.__name__ in ("StreamConsumed", "StreamClosed", "ResponseNotRead", "RequestNotRead"):
        error = kind()
    else:
        error = kind("x")
    with pytest.raises(HubError, match=r"does not answer|answered 502"), translated("org/name"):
        raise error


def test_a_token_changes_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    with pytest.raises(RegistryError, match="with the account of your token"), translated("o/n"):
        raise answer(403, errors.GatedRepoError)
    with pytest.raises(HubError, match="wrong or expired"), translated("o/n"):
        raise answer(401)


# Faults, against the server


NAME = "org/tiny-tr"


def push(folder: Path, version: str | None = "1.0.0", name: str = NAME) -> str:
    return publish(folder, name, version=version).ref


def test_a_server_that_is_down_is_said_to_be(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    client.stop()
    for act in (lambda: push(first), lambda: ftt_hub.pull(NAME), lambda: list(ftt_hub.browse())):
        with pytest.raises(HubError, match="does not answer"):
            act()


def test_an_upload_cut_off_leaves_nothing_and_continues(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    uploads = r"/lfs-uploads/"
    client.faults.add(
        method="PUT", path_regex=uploads, skip=1, times=99, action=Drop(side="request")
    )
    with pytest.raises(HubError, match=r"Run the command again|then run the command again"):
        push(first)
    assert "adapter_config.json" not in client._repo(NAME).head.tree
    assert not client._repo(NAME).tags
    arrived = [r for r in client.requests.where("PUT", uploads) if r.status == 200]
    assert len(arrived) == 1
    client.faults.clear()
    client.requests.clear()
    assert push(first) == f"{NAME}@v1.0.0"
    assert len(client.requests.where("PUT", uploads)) == 1  # of two: the other had arrived


def test_content_already_stored_is_not_sent_again(client: HubServer, first: Path) -> None:
    push(first)
    client.requests.clear()
    push(first, "1.1.0")
    push(first, "1.0.0", name="org/copy")
    assert not client.requests.where("PUT")


def test_a_push_of_what_is_there_sends_nothing(client: HubServer, first: Path) -> None:
    push(first)
    client.requests.clear()
    assert not publish(first, NAME, version="1.0.0").changed
    assert not publish(first, NAME).changed
    assert not [r for r in client.requests if r.method != "GET"]


def test_a_push_is_one_commit_and_one_tag(client: HubServer, first: Path) -> None:
    push(first)
    assert len(client.requests.where("POST", "/commit/")) == 1
    assert len(client.requests.where("POST", "/tag/")) == 1


def test_a_tag_that_failed_is_told_and_added_by_the_same_command(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    client.faults.add(method="POST", path_regex="/tag/", action=Status(500), times=9)
    with pytest.raises(HubError, match="only the tag is missing"):
        push(first)
    head = client.head(NAME)
    client.faults.clear()
    push(first)
    assert client.head(NAME) == client.head(NAME, "v1.0.0") == head


def test_an_older_version_without_its_tag_gets_it_by_the_same_command(
    client: HubServer, first: Path, second: Path, naps: list[float]
) -> None:
    push(first, "2.0.0")
    client.faults.add(method="POST", path_regex="/tag/", action=Status(500), times=9)
    with pytest.raises(HubError, match=r"on release-v1\.0\.0, .* only the tag is missing"):
        push(second, "1.0.0")
    client.faults.clear()
    with pytest.raises(VersionExistsError, match="choose a higher version"):
        push(first, "1.0.0")  # the name is taken, though the tag is not there yet
    push(second, "1.0.0")
    assert [v.tag for v in ftt_hub.versions(NAME)] == ["v2.0.0", "v1.0.0"]
    digest = ftt_hub.TransferAdapter.from_pretrained(f"{NAME}@v1.0.0").config.content_digest
    assert digest == ftt_hub.TransferAdapter.from_pretrained(second).config.content_digest


def test_an_older_version_that_main_does_not_list_is_listed_by_the_same_command(
    client: HubServer, first: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(first, "2.0.0")
    with monkeypatch.context() as patch:
        patch.setattr(hub_push, "commit_card", lambda *_: True)  # the connection broke there
        push(second, "1.0.0")
    [entry] = ftt_hub.browse()
    assert entry.listing.versions == ("v2.0.0",)
    push(second, "1.0.0")
    [entry] = ftt_hub.browse()
    assert entry.listing.versions == ("v2.0.0", "v1.0.0")


def test_a_lost_race_is_tried_again_after_a_look(
    client: HubServer, first: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, others = hub_push.hub.commit_files, iter(["2.0.0"])

    def raced(*args: Any, **options: Any) -> Any:
        for number in others:
            HubRegistry().publish(second, NAME, version=number)
        return real(*args, **options)

    push(first, "0.1.0")
    monkeypatch.setattr(hub_push.hub, "commit_files", raced)
    push(first, "1.0.0")
    assert [r.status for r in client.requests.where("POST", "/commit/")].count(412) == 1
    assert [v.tag for v in ftt_hub.versions(NAME)] == ["v2.0.0", "v1.0.0", "v0.1.0"]
    assert client.head(NAME, "v2.0.0") in {
        c.sha for c in client._repo(NAME).history(client._repo(NAME).head)
    }


def test_of_two_pushes_of_one_version_one_wins_and_one_is_told(
    client: HubServer, first: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, others = hub_push.hub.commit_files, iter([second])

    def raced(*args: Any, **options: Any) -> Any:
        for folder in others:
            HubRegistry().publish(folder, NAME, version="1.0.0")
        return real(*args, **options)

    push(first, "0.1.0")
    monkeypatch.setattr(hub_push.hub, "commit_files", raced)
    with pytest.raises(VersionExistsError, match="choose a higher version"):
        push(first, "1.0.0")
    digest = ftt_hub.TransferAdapter.from_pretrained(f"{NAME}@v1.0.0").config.content_digest
    assert digest == ftt_hub.TransferAdapter.from_pretrained(second).config.content_digest


def test_a_pull_request_leaves_main_alone(client: HubServer, first: Path) -> None:
    done = publish(first, NAME, create_pr=True)
    assert done.ref == f"{NAME}@refs/pr/1"
    assert "adapter_config.json" not in client._repo(NAME).head.tree
    assert ftt_hub.TransferAdapter.from_pretrained(done.ref).config.languages == ["tr", "de-AT"]
    with pytest.raises(RegistryError, match="no version yet"):
        publish(first, NAME, version="1.0.0", create_pr=True)


@pytest.mark.parametrize(
    ("token", "pattern"),
    [
        (None, "No token is set"),
        ("hf_expired", "wrong or expired"),
        ("hf_read", "lacks the permission.*read-only"),
        ("hf_stranger", "lacks the permission"),
    ],
)
def test_a_token_that_may_not_write_is_told_so(
    client: HubServer, first: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, pattern: str
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(FttError, match=pattern) as caught:
        push(first)
    assert caught.value.exit_code == 1


def test_private_and_gated_repositories_say_what_is_missing(
    client: HubServer, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(first, "org/hidden", private=True)
    for name in ("org/gated", "org/other-gate"):
        publish(first, name)
        client._repo(name).gated = "auto"
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(RefError, match="no such repository on the Hub, or it is private"):
        ftt_hub.pull("org/hidden")
    with pytest.raises(RegistryError, match=f"Accept its conditions at {client.url}/org/gated"):
        ftt_hub.pull("org/gated")
    client.admit("org/gated", "stranger")
    assert ftt_hub.pull("org/gated").folder.is_dir()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RefError, match="no token is set"):
        ftt_hub.pull("org/hidden")
    with pytest.raises(RegistryError, match="no token is set"):
        ftt_hub.pull("org/other-gate")


def test_private_content_is_not_pushed_to_a_public_repository(
    client: HubServer, first: Path, second: Path
) -> None:
    publish(first, "org/open")
    client.requests.clear()
    with pytest.raises(RegistryError, match="the repository is public already"):
        publish(second, "org/open", private=True)
    assert not [r for r in client.requests if r.method != "GET"]
    publish(first, "org/closed", private=True)
    assert client._repo("org/closed").private
    publish(second, "org/closed", private=True)


def test_a_renamed_repository_is_found_and_a_deleted_one_is_not(
    client: HubServer, first: Path
) -> None:
    push(first)
    client.rename(NAME, "org/renamed")
    assert ftt_hub.pull(f"{NAME}@v1.0.0").folder.is_dir()
    client.delete("org/renamed")
    with pytest.raises(RefError, match="no such repository"):
        ftt_hub.pull("org/renamed")


@pytest.mark.parametrize("fault", [Drop(), Truncate()], ids=["dropped", "truncated"])
def test_a_download_cut_off_is_continued_or_told_and_never_taken_for_whole(
    client: HubServer, first: Path, naps: list[float], fault: Drop | Truncate
) -> None:
    push(first)
    client.faults.add(method="GET", path_regex="adapter_model", times=99, action=fault)
    with pytest.raises(HubError, match=r"does not answer|transfer failed"):
        ftt_hub.pull(NAME)
    client.faults.clear()
    assert ftt_hub.pull(NAME).folder.is_dir()


def test_a_download_of_other_bytes_or_another_size_is_an_integrity_error(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    push(first)
    client.faults.add(method="GET", path_regex="adapter_model", action=Corrupt(at=5000))
    with pytest.raises(IntegrityError, match="does not match its hash"):
        ftt_hub.pull(NAME)
    publish(first, "org/other")
    client.faults.clear()
    client.faults.add(path_regex="org/other.*adapter_model", times=9, action=WrongSize(77))
    with pytest.raises(FttError):
        ftt_hub.pull("org/other")


def test_a_server_that_is_busy_or_ill_for_a_moment_is_asked_again(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    for code in (429, 500):
        client.faults.add(method="GET", path_regex="/api/models", action=Status(code, 9))
        client.faults.add(method="POST", path_regex="/preupload/", action=Status(code, 9))
    push(first)
    client.faults.add(path_regex="/api/models", action=Status(429, 11))
    assert [e.listing.name for e in ftt_hub.browse()] == [NAME]
    assert 11.0 in naps


def test_a_server_that_stays_ill_is_given_up_on(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    client.faults.add(times=99, action=Status(503))
    for act in (lambda: push(first), lambda: ftt_hub.pull(NAME), lambda: list(ftt_hub.browse())):
        with pytest.raises(HubError, match=r"answered 503 .*Try again later"):
            act()


def test_a_server_too_slow_is_given_up_on(
    client: HubServer, first: Path, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    push(first)
    for module in ("reading", "ranges", "listing"):
        monkeypatch.setattr(f"ftt_hub.hub.{module}.SECONDS", 0.1)
    client.faults.add(times=99, action=Delay(1.0))
    with pytest.raises(HubError, match=r"does not answer .ReadTimeout"):
        list(ftt_hub.browse())
    with pytest.raises(HubError, match=r"does not answer .ReadTimeout"):
        ftt_hub.verify(NAME, "org/other")


def test_the_listing_is_whole_or_an_error(
    client: HubServer, first: Path, naps: list[float]
) -> None:
    client.settings.page_size = 1
    for name in ("org/a", "org/b", "org/c"):
        publish(first, name)
    client.faults.add(method="GET", path_regex="/api/models$", skip=1, times=1, action=Status(500))
    assert [e.listing.name for e in ftt_hub.browse()] == ["org/a", "org/b", "org/c"]
    client.faults.add(method="GET", path_regex="/api/models$", skip=2, times=9, action=Status(500))
    with pytest.raises(HubError, match="answered 500"):
        list(ftt_hub.browse())


def test_another_account_with_rights_may_publish(
    client: HubServer, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.add_token("hf_member", Account("member", "write", frozenset({"org"})))
    monkeypatch.setenv("HF_TOKEN", "hf_member")
    assert push(first) == f"{NAME}@v1.0.0"
