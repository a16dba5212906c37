"""The cache outside the repository: folders that appear whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from demo.errors import DemoError


def cache_dir() -> Path:
    """Return `$FTT_HUB_DEMO_CACHE`, else `ftt-hub/demo` in the user's cache folder."""
    if chosen := os.environ.get("FTT_HUB_DEMO_CACHE"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ftt-hub" / "demo"


def open_cache() -> Path:
    """Return the cache folder, made if it was not there.

    Raises:
        DemoError: The folder cannot be made.
    """
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    return folder


def built(path: Path, build: Callable[[Path], None]) -> Path:
    """Return the folder `path`, made by `build` unless an earlier run made it.

    `build` fills `<path>.partial`, which is then renamed, so a folder that exists is complete.
    A lock keeps two processes from building the same folder.

    Raises:
        DemoError: The cache cannot be written, or the disk is full.
    """
    if path.is_dir():
        return path
    partial = path.with_name(path.name + ".partial")
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                build(partial)
                partial.rename(path)
    return path


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into one line that says what to do.

    Raises:
        DemoError: In place of the `OSError`, also where a library wraps it in its own error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _disk_full(path) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise _not_writable(error.filename or path, error) from error
        raise
    except Exception as error:
        # safetensors and tokenizers report a full disk as their own error, tokenizers as a bare
        # Exception, with the system's text in it.
        if os.strerror(errno.ENOSPC) in str(error):
            raise _disk_full(path) from error
        raise


def _not_writable(path: Path | str, error: OSError) -> DemoError:
    return DemoError(
        f"cannot write {path}: {error.strerror}. "
        "Set FTT_HUB_DEMO_CACHE to a folder you may write to."
    )


def _disk_full(path: Path) -> DemoError:
    return DemoError(
        f"the disk is full while writing {path}. The demo needs 2 GB: free some space, "
        "or set FTT_HUB_DEMO_CACHE to a folder on another disk."
    )
