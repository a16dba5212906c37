"""Options that several commands share, and parsing of sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from ftt_hub.support.sizes import parse_bytes

F = TypeVar("F", bound=Callable[..., object])


class CodecName(click.ParamType[str]):
    """An id from the catalogue of codecs, or ``auto``; the catalogue is imported when needed."""

    name = "codec"

    def _choice(self) -> click.Choice[str]:
        from ftt_hub.codecs.catalogue import CODECS

        return click.Choice([*CODECS, "auto"])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """All ids, for the help text."""
        return self._choice().get_metavar(param, ctx)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The id, or fail with the usage."""
        return self._choice().convert(str(value), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The ids that begin so."""
        return self._choice().shell_complete(ctx, param, incomplete)


class ByteSize(click.ParamType[int]):
    """A number of bytes such as ``5GB``, ``500MB`` or ``2GiB``."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse, or fail with the usage."""
        if isinstance(value, int):
            return value
        try:
            size = parse_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
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
