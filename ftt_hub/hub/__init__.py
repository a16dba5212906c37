"""The Hugging Face Hub: the only package that imports huggingface_hub.

Every error of the client and of its transport comes out as one of ours (`failures`).
"""

from __future__ import annotations

from ftt_hub.hub.failures import (
    ExistsError,
    StaleParentError,
    translated,
    transport_errors,
)
from ftt_hub.hub.listing import ModelSummary, list_models
from ftt_hub.hub.model_download import companions_of, download_model, weights_of
from ftt_hub.hub.ranges import RangesIgnoredError, read_file, read_range
from ftt_hub.hub.reading import (
    RemoteFile,
    Repository,
    describe,
    download_adapter,
    download_file,
    head_commit,
    is_commit,
    is_offline,
    page_address,
    resolve_commit,
    tag_dates,
    version_tags,
)
from ftt_hub.hub.writing import (
    Committed,
    commit_files,
    create_branch,
    create_repository,
    create_tag,
)

__all__ = [
    "Committed",
    "ExistsError",
    "ModelSummary",
    "RangesIgnoredError",
    "RemoteFile",
    "Repository",
    "StaleParentError",
    "commit_files",
    "companions_of",
    "create_branch",
    "create_repository",
    "create_tag",
    "describe",
    "download_adapter",
    "download_file",
    "download_model",
    "head_commit",
    "is_commit",
    "is_offline",
    "list_models",
    "page_address",
    "read_file",
    "read_range",
    "resolve_commit",
    "tag_dates",
    "translated",
    "transport_errors",
    "version_tags",
    "weights_of",
]
