"""A Hub-compatible server on loopback, driven by the tests with the real `huggingface_hub` client.

It speaks enough of the Hub's HTTP API for models to create, upload (regular, LFS basic, LFS
multipart), commit, tag, list, search and download, and it can be told to misbehave:

    with HubServer(tmp_path, lfs_threshold=1000) as server:
        api = HfApi(endpoint=server.url, token=server.write_token)
        server.commit("org/model", {"README.md": b"..."})
        server.faults.add(method="GET", path_regex="/resolve/", action=Drop())

The client must not use xet: set `huggingface_hub.constants.HF_HUB_DISABLE_XET` to True.
"""

from .accounts import Account
from .faults import (
    Action,
    Corrupt,
    Delay,
    Drop,
    Fault,
    Faults,
    Headers,
    Status,
    Truncate,
    WrongEtag,
    WrongSize,
)
from .journal import LoggedRequest, RequestLog
from .server import HubServer

__all__ = [
    "Account",
    "Action",
    "Corrupt",
    "Delay",
    "Drop",
    "Fault",
    "Faults",
    "Headers",
    "HubServer",
    "LoggedRequest",
    "RequestLog",
    "Status",
    "Truncate",
    "WrongEtag",
    "WrongSize",
]
