"""Is a folder what `--source-id` says it is? Compared with the Hub's hashes, where it answers."""

from __future__ import annotations

from pathlib import Path

from ftt_hub import hub
from ftt_hub.artifact.folder import file_digest
from ftt_hub.errors import FttError
from ftt_hub.support.progress import Silent
from ftt_hub.support.refs import is_repository_name
from ftt_hub.support.warn import warn_caller


def check_claim(folder: Path, claimed: str | None) -> None:
    """Warn when a folder's weights are not those of the repository it is said to be a copy of.

    Says nothing where the Hub does not answer, has no such repository, or tells no hashes. It is a
    warning and no error because the folder may be a copy of an earlier commit.
    """
    if claimed is None or not is_repository_name(claimed) or hub.is_offline():
        return
    try:
        remote = hub.describe(claimed).files
    except FttError:
        return
    local = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    known = {n: f for n, f in remote.items() if n.endswith(".safetensors") and f.sha256}
    if not known:
        return
    different = sorted(local.keys() ^ known.keys()) or [
        name for name, file in known.items() if _differs(local[name], file)
    ]
    if different:
        warn_caller(f"{folder} is not {claimed} as it is on main: {different[0]} differs")


def _differs(path: Path, file: hub.RemoteFile) -> bool:
    if file.size is not None and path.stat().st_size != file.size:
        return True
    return file_digest(path, Silent()) != file.sha256
