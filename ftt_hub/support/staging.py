"""Output that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ftt_hub.errors import FttError, OutputError

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, then run the command again."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, then run the command again."),
    errno.EACCES: ("no permission to write", "Choose another folder or change its permissions."),
    errno.EPERM: ("no permission to write", "Choose another folder or change its permissions."),
    errno.EROFS: ("the file system is read-only", "Choose another folder."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter name."),
    errno.EFBIG: ("the file is too large for this file system", "Choose another disk."),
}


def output_error(error: OSError, where: Path) -> OutputError:
    """An operating-system error while writing, as one line with the next step."""
    reason, hint = _REASONS.get(
        error.errno or 0, (f"cannot be written ({error.strerror})", "Check the folder.")
    )
    return OutputError(reason, where=error.filename or where, hint=hint)


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn operating-system errors of the body into `OutputError`."""
    try:
        yield
    except OSError as error:
        raise output_error(error, where) from error


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: The file.
        data: Its new content.
        durable: Also survive a power cut; without it, a killed process only.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def require_free(out: Path) -> None:
    """Refuse an output folder that exists and is not empty.

    Raises:
        OutputError: It is not empty, or not a folder.
    """
    with writing(out):
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(
                "the output folder is not empty",
                where=out,
                hint="Choose another folder or empty this one; nothing was changed.",
            )
        if out.exists() and not out.is_dir():
            raise OutputError("is a file, not a folder", where=out, hint="Choose another name.")


def partial_folder(out: Path) -> Path:
    """Where the output is built: a hidden folder beside it, on the same file system."""
    out = out.absolute()
    return out.with_name(f".{out.name}.partial")


@contextmanager
def locked(path: Path, busy: FttError, *, seconds: float = 0) -> Iterator[None]:
    """Hold a lock file for the length of a `with` block.

    Args:
        path: The lock file; made with its folder where it does not exist.
        busy: Raised when another process holds the lock.
        seconds: How long to wait for it.

    Raises:
        OutputError: The folder cannot be written.
    """
    lock = FileLock(path, timeout=seconds)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # filelock would wait on a read-only disk
        try:
            lock.acquire()
        except Timeout as error:
            raise busy from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staged_folder(out: Path, *, keep: bool = False) -> Iterator[Path]:
    """Build a folder beside `out`, and rename it to `out` when the body ends without an error.

    Args:
        out: The final folder; must be absent or empty.
        keep: Keep what was built when the body fails, so that a later call can continue it.
            Without it leftovers of a killed run are removed.

    Raises:
        OutputError: `out` is not empty, another process is writing it, or writing fails.
    """
    require_free(out)
    partial = partial_folder(out)
    lock = partial.with_name(f"{partial.name}.lock")
    busy = OutputError(
        "another process is writing this folder", where=out, hint="Wait for it to end."
    )
    with locked(lock, busy):
        try:
            yield from _build(out, partial, keep)
        finally:
            lock.unlink(missing_ok=True)


def _build(out: Path, partial: Path, keep: bool) -> Iterator[Path]:
    with writing(out):
        if not keep:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
    done = False
    try:
        with writing(out):
            yield partial
            require_free(out)
            if out.is_dir():
                out.rmdir()
            os.replace(partial, out)
        done = True
    finally:
        if not done and not keep:
            shutil.rmtree(partial, ignore_errors=True)


def require_free_file(out: Path) -> None:
    """Refuse an output file that exists.

    Raises:
        OutputError: There is one, or a folder of that name.
    """
    if out.exists():
        raise OutputError(
            "exists already", where=out, hint="Choose another name or delete it; nothing was done."
        )


@contextmanager
def staged_file(out: Path) -> Iterator[Path]:
    """A file beside `out`, renamed to `out` when the body ends without an error.

    Raises:
        OutputError: `out` exists, or writing fails.
    """
    require_free_file(out)
    partial = out.absolute().with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    with writing(out):
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
