"""File contents, addressed by their hashes, and the disk they lie on."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 256 * 1024
INLINE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """One file's content as a commit refers to it.

    Attributes:
        size: bytes of the content (not of the LFS pointer).
        oid: git's SHA-1 of the content, or of the pointer file under LFS.
        sha256: hex digest of an LFS object, None for a regular file.
        source: the bytes, if they are few, else the file that holds them.
    """

    size: int
    oid: str
    sha256: str | None
    source: bytes | Path

    @property
    def etag(self) -> str:
        """The entity tag that the Hub gives: SHA-256 under LFS, else git's SHA-1."""
        return self.sha256 or self.oid

    @property
    def pointer_size(self) -> int:
        """Bytes of the LFS pointer file."""
        return len(pointer(self.sha256 or "", self.size))

    def read(self) -> bytes:
        """Return the whole content."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield bytes `start` to `stop` (exclusive) in pieces of at most `CHUNK`."""
        if isinstance(self.source, bytes):
            yield self.source[start:stop]
            return
        with self.source.open("rb") as file:
            file.seek(start)
            while start < stop:
                piece = file.read(min(CHUNK, stop - start))
                start += len(piece)
                yield piece


class BlobStore:
    """Content-addressed storage in a folder; small seeded contents stay in memory."""

    def __init__(self, root: Path) -> None:
        self.incoming = root / "incoming"
        self._regular = root / "regular"
        self._lfs = root / "lfs"
        for folder in (self.incoming, self._regular, self._lfs):
            folder.mkdir(parents=True, exist_ok=True)
        self._objects: dict[str, Blob] = {}
        self._lock = threading.Lock()

    def add_regular(self, data: bytes) -> Blob:
        """Keep the content of a regular file."""
        oid = git_oid(data)
        return Blob(len(data), oid, None, _keep(data, self._regular / oid))

    def add_lfs(self, data: bytes) -> Blob:
        """Keep the content of an LFS object that is at hand in memory."""
        sha256 = hashlib.sha256(data).hexdigest()
        return self._register(sha256, len(data), _keep(data, self._lfs / sha256))

    def adopt(self, path: Path, sha256: str) -> Blob:
        """Take over an uploaded file whose digest the caller has checked."""
        target = self._lfs / sha256
        size = path.stat().st_size
        path.replace(target)
        return self._register(sha256, size, target)

    def find(self, sha256: str) -> Blob | None:
        """Return the stored LFS object, if there is one."""
        return self._objects.get(sha256)

    def _register(self, sha256: str, size: int, source: bytes | Path) -> Blob:
        blob = Blob(size, git_oid(pointer(sha256, size)), sha256, source)
        with self._lock:
            return self._objects.setdefault(sha256, blob)


def git_oid(data: bytes) -> str:
    """Return the id that `git hash-object` gives."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """Return the LFS pointer file of an object."""
    version = "https://git-lfs.github.com/spec/v1"
    return f"version {version}\noid sha256:{sha256}\nsize {size}\n".encode()


def _keep(data: bytes, path: Path) -> bytes | Path:
    if len(data) <= INLINE_LIMIT:
        return data
    partial = path.with_suffix(f".{threading.get_ident()}")
    partial.write_bytes(data)
    partial.replace(path)
    return path
