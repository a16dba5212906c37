"""lm-evaluation-harness, which the extra `eval` installs: required, kept quiet, its errors ours."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib.util import find_spec

from ftt_hub import hub
from ftt_hub.errors import FttError, HubError, MissingExtraError, TaskError

INSTALL = "pip install 'ftt-hub[eval]'"


_FAULTS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
"""What the harness raises over a task that is not as it expects."""


def require_harness() -> None:
    """Make sure the extra is there.

    Raises:
        MissingExtraError: It is not; names the command that installs it.
    """
    if find_spec("lm_eval") is None:
        raise MissingExtraError(
            "tasks run on lm-evaluation-harness, which is not installed",
            where="ftt-hub evaluate",
            hint=f"Run {INSTALL}; --text works without it.",
        )


def harness_version() -> str:
    """Version of the harness that is installed."""
    from importlib.metadata import version

    return version("lm-eval")


@contextmanager
def quiet(bars: bool) -> Iterator[None]:
    """Keep the harness from logging, and unless `bars` from drawing progress bars on stderr."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with nullcontext() if bars else redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def task_errors(where: str) -> Iterator[None]:
    """Turn what the harness and `datasets` raise while a task is loaded or scored into our errors.

    Raises:
        MissingExtraError: The task needs a package that is not installed.
        HubError: Its data set is not here, and the Hub was not reached.
        TaskError: Anything else that is wrong with the task or its data.
    """
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError
    from yaml import YAMLError

    try:
        yield
    except FttError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            "the task needs another package",
            where=where,
            found=_one_line(error),
            hint=f"Run {INSTALL}.",
        ) from error
    except _unreachable() as error:
        raise HubError(
            "the task's data set is not on this machine, and the Hub was not reached",
            where=where,
            found=_one_line(error),
            hint="Unset HF_HUB_OFFLINE or check the network; local YAML and JSONL tasks need none.",
        ) from error
    except (*_FAULTS, DatasetsError, TemplateError, YAMLError) as error:
        raise TaskError(
            "the task cannot be run",
            where=where,
            found=f"{type(error).__name__}: {_one_line(error)}",
            hint="Check the task's file, and the access to its data set.",
        ) from error


def _unreachable() -> tuple[type[Exception], ...]:
    return (ConnectionError, *hub.transport_errors())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
