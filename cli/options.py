"""Options that several commands share, and parsing of sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*$", re.IGNORECASE)


class ByteSize(click.ParamType[int]):
    """A number of bytes such as ``5GB``, ``500MB`` or ``2GiB``."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse, or fail with the usage."""
        if isinstance(value, int):
            return value
        match = _SIZE.match(str(value))
        if match is None:
            self.fail(f"{value!r} is not a size such as 5GB", param, ctx)
        number, prefix, binary = match.groups()
        base = 1024 if binary else 1000
        size = int(float(number) * base ** " KMGT".index(prefix.upper() or " "))
        if size < 1:
            self.fail("a size must be at least one byte", param, ctx)
        return size


def registry_option(function: F) -> F:
    """`--registry`."""
    option = click.option(
        "--registry",
        envvar="FTT_HUB_REGISTRY",
        metavar="hf|FOLDER",
        help="Where adapters live: hf (default) or a folder. [env: FTT_HUB_REGISTRY]",
    )
    return option(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def workers_option(function: F) -> F:
    """`--workers`."""
    option = click.option(
        "--workers",
        type=click.IntRange(1, 256),
        help="Number of threads; default one per core, at most 8.",
    )
    return option(function)


def provenance_options(function: F) -> F:
    """`--language`, `--dataset` and `--license`, for commands that make an adapter."""
    language = click.option(
        "--language",
        "languages",
        multiple=True,
        metavar="TAG",
        help="BCP-47 tag of a language of the training data; repeatable.",
    )
    dataset = click.option(
        "--dataset", "datasets", multiple=True, metavar="ID", help="Training dataset; repeatable."
    )
    licence = click.option("--license", "licence", metavar="ID", help="Licence of the adapter.")
    return language(dataset(licence(function)))
