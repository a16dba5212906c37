"""The adapter folder as a whole: which files it holds, and whether they are what it says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ftt_hub.artifact.index import TensorEntry, model_digest
from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig, read_config
from ftt_hub.artifact.reader import Container
from ftt_hub.codecs.catalogue import codec
from ftt_hub.errors import IntegrityError
from ftt_hub.support.json_schema import Json
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.progress import Progress, Silent

CARD_NAME = "README.md"
_PIECE = 1 << 20
_UNLISTED = {CONFIG_NAME, CARD_NAME, ".gitattributes"}


def file_digest(path: Path, progress: Progress) -> str:
    """sha256 of a file, in hex, read a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            progress.advance(len(piece))
    return digest.hexdigest()


def list_files(folder: Path, progress: Progress) -> Json:
    """Size and hash of every file that belongs to the content.

    The card and `verified/` may gain lines later; they are not part of it.
    """
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _UNLISTED and not path.name.startswith(".")
    ]
    progress.start("hashing", sum(path.stat().st_size for path in paths))
    listed = {
        path.name: {"size": path.stat().st_size, "sha256": file_digest(path, progress)}
        for path in paths
    }
    progress.finish()
    return listed


def check_files(folder: Path, config: AdapterConfig, progress: Progress) -> None:
    """Compare every listed file with its size and hash.

    Raises:
        IntegrityError: A file is missing or differs.
    """
    progress.start("checking files", config.stored_bytes)
    for name, facts in config.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != facts["size"]:
            raise IntegrityError(
                "has another size than the manifest says",
                where=path,
                expected=f"{facts['size']} bytes",
                found="no such file" if size is None else f"{size} bytes",
                hint="Download the adapter again.",
            )
        found = file_digest(path, progress)
        if found != facts["sha256"]:
            raise IntegrityError(
                "does not match its hash",
                where=path,
                expected=facts["sha256"][:16],
                found=found[:16],
                hint="Download the adapter again.",
            )
    progress.finish()


def _check_frames(container: Container, progress: Progress, workers: int | None) -> None:
    jobs = [(e, n) for e in container.entries.values() for n in range(len(e.blocks))]
    progress.start("checking frames", sum(e.nbytes for e in container.entries.values()))

    def check(job: tuple[TensorEntry, int]) -> int:
        entry, number = job
        if codec(entry.codec or "").needs_source:
            container.frame(entry, number)  # its hash; it decodes against the source base only
        else:
            container.decode(entry, number)
        return entry.blocks[number].length

    for length in map_unordered(check, jobs, workers):
        progress.advance(length)
    progress.finish()


def _check_digests(config: AdapterConfig, container: Container) -> None:
    if container.num_slots != config.num_slots:
        raise IntegrityError(
            "the container has another number of slots",
            where=container.folder,
            expected=config.num_slots,
            found=container.num_slots,
        )
    tuned = {
        e.name: (e.fine_tuned, e.shape)
        for e in container.entries.values()
        if e.fine_tuned is not None
    }
    if model_digest(tuned) != config.fine_tuned.digest:
        raise IntegrityError(
            "the index does not match the digest of the fine-tuned model", where=container.folder
        )


def check_adapter(
    folder: Path, *, progress: Progress | None = None, workers: int | None = None
) -> AdapterConfig:
    """Check an adapter completely: schema, hashes, and that every frame decodes.

    Raises:
        IntegrityError: It is damaged.
        UnsupportedError: It was made for a newer format.
    """
    config = read_config(folder)
    watcher = progress or Silent()
    check_files(folder, config, watcher)
    with Container(folder) as container:
        _check_digests(config, container)
        _check_frames(container, watcher, workers)
    return config
