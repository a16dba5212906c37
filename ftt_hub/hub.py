"""The Hugging Face Hub: the only module that imports huggingface_hub.

Every error of the client and of its transport comes out as one of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.errors import HubError, RefError, RegistryError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MODEL_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "LICENSE*",
    "USE_POLICY*",
)
ADAPTER_FOLDERS_IGNORED = ("verified/*", ".gitattributes")
_SHA = re.compile(r"^[0-9a-f]{40}$")


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="ftt-hub")


def _transport_errors() -> tuple[type[Exception], ...]:
    """Base classes of connection errors: httpx under huggingface_hub 1.x, httpx2 under 2.x."""
    from importlib import import_module
    from importlib.util import find_spec

    return tuple(
        import_module(name).HTTPError for name in ("httpx2", "httpx") if find_spec(name) is not None
    )


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the client's errors into ours.

    Raises:
        RefError: The repository, revision or file does not exist, or is private.
        RegistryError: Access is gated or not permitted.
        HubError: The server or the network failed, or we are offline.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise RegistryError(
            "access is gated",
            where=name,
            hint=f"Accept its conditions at https://huggingface.co/{name}, then set HF_TOKEN.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise RefError(
            "no such repository on the Hub, or it is private",
            where=name,
            hint="Check the spelling; for a private one set HF_TOKEN or run hf auth login.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RefError(
            "no such revision", where=name, hint="Check the branch, tag or commit."
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(
            "not in the cache, and offline mode is on",
            where=name,
            hint="Unset HF_HUB_OFFLINE, or pull it while online.",
        ) from error
    except errors.EntryNotFoundError as error:
        raise RefError(
            "a file is missing there or not in the cache",
            where=name,
            hint="Is it a model or adapter? If offline: pull it while online.",
        ) from error
    except errors.HFValidationError as error:
        raise RefError("not a repository name", where=name, expected="namespace/name") from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = {401: "Set HF_TOKEN or run hf auth login.", 403: "The token lacks the permission."}
        raise HubError(
            f"the Hub answered {status}", where=name, hint=hint.get(status or 0, "Try again later.")
        ) from error
    except _transport_errors() as error:
        raise HubError(
            f"the Hub does not answer ({type(error).__name__})",
            where=name,
            hint="Check the network, HF_ENDPOINT and proxies, then try again.",
        ) from error


def resolve_commit(name: str, revision: str | None) -> str:
    """Commit sha of a branch, tag or commit; a sha is returned as it is.

    Raises:
        RefError: No such repository or revision.
        HubError: The Hub does not answer.
    """
    if revision is not None and _SHA.match(revision):
        return revision
    with translated(name):
        return str(_api().resolve_revision(name, revision=revision))


def download_model(name: str, commit: str) -> Path:
    """A model's weights, config and tokenizer in the Hub cache."""
    with translated(name):
        path = _api().snapshot_download(name, revision=commit, allow_patterns=list(MODEL_PATTERNS))
    return Path(path)


def download_adapter(name: str, commit: str) -> Path:
    """A whole transfer adapter in the Hub cache."""
    with translated(name):
        path = _api().snapshot_download(
            name, revision=commit, ignore_patterns=list(ADAPTER_FOLDERS_IGNORED)
        )
    return Path(path)


def download_file(name: str, commit: str, filename: str) -> Path | None:
    """One small file in the Hub cache, ``None`` when the repository has none."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with translated(name):
        try:
            return Path(_api().hf_hub_download(name, filename, revision=commit))
        except RemoteEntryNotFoundError:
            return None


def tensor_headers(name: str, commit: str) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Tensor name → (dtype, shape, bytes) of a model, by ranged reads of its headers."""
    with translated(name):
        metadata = _api().get_safetensors_metadata(name, revision=commit)
    return {
        tensor: (
            str(info.dtype),
            tuple(info.shape),
            info.data_offsets[1] - info.data_offsets[0],
        )
        for file in metadata.files_metadata.values()
        for tensor, info in file.tensors.items()
    }


def head_commit(name: str) -> str | None:
    """Commit sha of a repository's main branch, ``None`` when there is no such repository."""
    try:
        return resolve_commit(name, "main")
    except RefError:
        return None


def version_tags(name: str) -> dict[str, str]:
    """Tag name → commit sha of a repository."""
    with translated(name):
        refs = _api().list_repo_refs(name)
    return {tag.name: tag.target_commit for tag in refs.tags}


def create_repository(name: str, *, private: bool) -> None:
    """Create a model repository unless it exists."""
    with translated(name):
        _api().create_repo(name, private=private, exist_ok=True)


def commit_files(name: str, files: dict[str, Path], message: str, parent: str | None) -> str:
    """Put files into a repository in one commit on top of `parent`, and return its sha.

    Raises:
        HubError: The branch moved on meanwhile, or the upload failed; nothing became visible.
    """
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=file)
        for path, file in sorted(files.items())
    ]
    with translated(name):
        info = _api().create_commit(name, operations, commit_message=message, parent_commit=parent)
    return str(info.oid)


def create_tag(name: str, tag: str, commit: str) -> None:
    """Tag a commit."""
    with translated(name):
        _api().create_tag(name, tag=tag, revision=commit)


def list_adapters() -> Iterator[str]:
    """Names of all repositories that carry our tag."""
    with translated("the Hub"):
        for info in _api().list_models(filter="ftt-hub"):
            yield str(info.id)


def page_address(name: str, revision: str) -> str:
    """Address of a repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name}/tree/{revision}"
