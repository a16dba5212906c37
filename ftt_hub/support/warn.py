"""Warnings that name the line of the caller and not one of ours."""

from __future__ import annotations

import inspect
import warnings
from types import FrameType

_BETWEEN = {"ftt_hub", "click", "concurrent", "contextlib", "functools", "importlib", "threading"}
"""Top-level modules between the caller's line and ours."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of what the caller of this package should change.

    Args:
        message: What, in one line.
        category: Its kind.
    """
    frame = _calling_frame()
    names = frame.f_globals
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=names.get("__name__", "unknown"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _calling_frame() -> FrameType:
    """The innermost frame outside the package, else the outermost one."""
    frame = inspect.currentframe()
    if frame is None:
        raise RuntimeError("this Python has no stack frames")
    while frame.f_back is not None and _is_between(frame):
        frame = frame.f_back
    return frame


def _is_between(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN
