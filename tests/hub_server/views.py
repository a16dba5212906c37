"""How repos, commits and files look in JSON."""

from collections.abc import Callable, Mapping
from datetime import date, datetime

from . import cards
from .blobs import Blob
from .repos import Commit, Repo, entry_oid

Json = dict[str, object]


def timestamp(moment: datetime) -> str:
    """Return a time as the Hub writes it: UTC, milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def siblings(commit: Commit, *, blobs: bool) -> list[Json]:
    """Return the files of a commit, with sizes and hashes if `blobs`."""
    return [
        {"rfilename": path, **(_blob(blob) if blobs else {})}
        for path, blob in sorted(commit.tree.items())
    ]


def _blob(blob: Blob) -> Json:
    view: Json = {"size": blob.size, "blobId": blob.oid}
    if blob.sha256 is not None:
        lfs = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
        view["lfs"] = lfs
    return view


def _bases(repo: Repo, commit: Commit) -> object:
    bases = cards.strings(commit.card.get("base_model"))
    models = [{"id": base} for base in bases]
    return {"relation": cards.relation(commit.card, commit.tree), "models": models}


FIELDS: dict[str, Callable[[Repo, Commit], object]] = {
    "author": lambda repo, commit: repo.namespace,
    "baseModels": _bases,
    "cardData": lambda repo, commit: plain(commit.card),
    "createdAt": lambda repo, commit: timestamp(repo.created),
    "disabled": lambda repo, commit: False,
    "downloads": lambda repo, commit: repo.downloads,
    "downloadsAllTime": lambda repo, commit: repo.downloads,
    "gated": lambda repo, commit: repo.gated,
    "lastModified": lambda repo, commit: timestamp(commit.date),
    "library_name": lambda repo, commit: cards.library(commit.card, commit.tree),
    "likes": lambda repo, commit: repo.likes,
    "model-index": lambda repo, commit: plain(commit.card.get("model-index")),
    "pipeline_tag": lambda repo, commit: commit.card.get("pipeline_tag"),
    "private": lambda repo, commit: repo.private,
    "sha": lambda repo, commit: commit.sha,
    "siblings": lambda repo, commit: siblings(commit, blobs=False),
    "tags": lambda repo, commit: commit.tags,
    "trendingScore": lambda repo, commit: repo.likes,
    "usedStorage": lambda repo, commit: sum(blob.size for blob in commit.tree.values()),
}
LISTED = [
    "createdAt",
    "downloads",
    "library_name",
    "likes",
    "pipeline_tag",
    "private",
    "tags",
    "trendingScore",
]
FULL = [*LISTED, "author", "disabled", "gated", "lastModified", "sha", "siblings"]
INFO = [*FULL, "cardData", "model-index", "usedStorage"]
FROM_CARD = {"baseModels", "cardData", "library_name", "model-index", "pipeline_tag"}


def model(repo: Repo, commit: Commit, fields: list[str], *, bare: bool) -> Json:
    """Return the named fields of a model, less those that this server does not know.

    A bare model has no tags and nothing that comes from the card.
    """
    view: Json = {"_id": commit.sha[:24], "id": repo.id, "modelId": repo.id}
    for name in fields:
        if bare and name == "tags":
            view["tags"] = []
        elif name in FIELDS and not (bare and name in FROM_CARD):
            value = FIELDS[name](repo, commit)
            if value not in (None, {}):
                view[name] = value
    return view


def commit_item(commit: Commit, *, formatted: bool) -> Json:
    """Return a commit as in a list of commits."""
    view: Json = {
        "id": commit.sha,
        "title": commit.title,
        "message": commit.description,
        "date": timestamp(commit.date),
        "authors": [{"user": commit.author}],
    }
    if formatted:
        view["formatted"] = {"title": commit.title, "message": commit.description}
    return view


def entry(repo: Repo, commit: Commit, path: str, *, expand: bool) -> Json | None:
    """Return a file or folder as in a tree, None if the commit has no such path."""
    oid = entry_oid(commit.tree, path)
    if oid is None:
        return None
    blob = commit.tree.get(path)
    kind = "directory" if blob is None else "file"
    view: Json = {"type": kind, "oid": oid, "size": blob.size if blob else 0, "path": path}
    if blob is not None and blob.sha256 is not None:
        lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
        view["lfs"] = lfs
    if expand:
        last = repo.last_change(commit, path)
        view["lastCommit"] = {"id": last.sha, "title": last.title, "date": timestamp(last.date)}
    return view


def ref(full_name: str, sha: str) -> Json:
    """Return a branch or tag as in a list of refs."""
    return {"name": full_name.split("/", 2)[2], "ref": full_name, "targetCommit": sha}


def plain(value: object) -> object:
    """Return YAML data as JSON data: dates become strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
