"""From a reference to a model: a local folder, or the Hub by way of its cache."""

from __future__ import annotations

from pathlib import Path

from ftt_hub import hub
from ftt_hub.checkpoint.headers import ModelHeaders, headers_of
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.checkpoint.remote import PickledWeightsError, RemoteModel
from ftt_hub.errors import CheckpointError, RefError
from ftt_hub.support.refs import Ref, parse_ref


def _require_name(ref: Ref) -> str:
    if ref.name is None:
        raise RefError("no such folder", where=ref, hint="Check the path.")
    return ref.name


def model_folder(text: str | Path) -> tuple[Path, str, str | None]:
    """Folder, label and commit of a model; downloads from the Hub what is not cached.

    Raises:
        RefError: It names nothing.
        HubError: The Hub does not answer.
    """
    ref = parse_ref(text)
    if ref.folder is not None:
        if not ref.folder.is_dir():
            raise RefError("no such folder", where=ref.folder, hint="Check the path.")
        return ref.folder, str(ref.folder), None
    name = _require_name(ref)
    commit = hub.resolve_commit(name, ref.revision)
    return hub.download_model(name, commit), name, commit


def open_model(text: str | Path) -> tuple[Checkpoint, ModelHeaders]:
    """Weights and headers of a model. The caller closes the checkpoint.

    Raises:
        RefError: It names nothing.
        CheckpointError: The folder is not a readable model.
        HubError: The Hub does not answer.
    """
    folder, label, commit = model_folder(text)
    checkpoint = Checkpoint(folder, label=label)
    try:
        return checkpoint, headers_of(checkpoint, commit=commit)
    except CheckpointError:
        checkpoint.close()
        raise


def read_headers(text: str | Path) -> ModelHeaders:
    """Headers of a model; of a Hub model only headers, config and tokenizer are fetched.

    A model whose weights are `pytorch_model.bin` has no headers: it is downloaded whole.

    Raises:
        RefError: It names nothing.
        CheckpointError: Malformed files.
        HubError: The Hub does not answer.
    """
    ref = parse_ref(text)
    if ref.folder is None:
        name = _require_name(ref)
        if hub.is_offline():
            return _cached_headers(name, ref)
        try:
            return RemoteModel(name, ref.revision).headers
        except PickledWeightsError:
            return _cached_headers(name, ref)
    checkpoint, headers = open_model(ref.folder)
    checkpoint.close()
    return headers


def _cached_headers(name: str, ref: Ref) -> ModelHeaders:
    commit = hub.resolve_commit(name, ref.revision)
    with Checkpoint(hub.download_model(name, commit), label=name) as checkpoint:
        return headers_of(checkpoint, commit=commit)
