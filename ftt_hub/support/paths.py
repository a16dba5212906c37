"""What a user may give as a path or a reference."""

from __future__ import annotations

from pathlib import Path

PathLike = str | Path
