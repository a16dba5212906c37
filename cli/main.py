"""`ftt-hub`: the group; a command's module is imported only when it is run."""

from __future__ import annotations

import logging
import sys
import warnings
from importlib import import_module

import click

from ftt_hub.errors import FttError
from ftt_hub.support.terminal import printable
from ftt_hub.version import __version__

COMMANDS = {
    "extract": "Make a transfer adapter from a source base and a fine-tuned model.",
    "info": "Show what an adapter holds and how faithful it is.",
    "verify": "Check an adapter: intact? With --target: does it fit?",
    "apply": "Write the merged checkpoint: target + scale × Δ.",
    "combine": "Combine adapters by a recipe into one, or into a checkpoint.",
    "tune": "Find the scale with the least loss on held-out text.",
    "convert": "From PEFT adapters, to LoRA, to sparse patches.",
    "evaluate": "Compare target, target + Δ and others on tasks and text.",
    "recycle": "Recycle and fine-tune for each new version of a base, by a recipe.",
    "push": "Publish an adapter folder under a name.",
    "pull": "Fetch an adapter from a registry.",
    "rank": "Order a registry's adapters for a target, with reasons.",
    "browse": "List adapters by language, base, dataset and fit.",
    "versions": "List the published versions of an adapter.",
    "deprecate": "Mark a version as one that should no longer be used.",
}

_EPILOG = """\b
Example:
  ftt-hub extract org/base-v1 ./base-v1-turkish ./turkish --language tr --license apache-2.0
  ftt-hub push ./turkish me/base-v1-turkish --version 1.0.0
  ftt-hub verify me/base-v1-turkish@v1.0.0 --target org/base-v2
  ftt-hub apply me/base-v1-turkish@v1.0.0 --target org/base-v2 --out ./base-v2-turkish

\b
Exit codes: 0 done, 1 error, 2 usage, 3 incompatible, 4 integrity failure.
"""


class LazyGroup(click.Group):
    """Lists its commands without importing them, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of a first session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"ftt_hub.cli.{cmd_name}"), "command", None)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning as one line on stderr."""
    click.echo(f"note: {printable(str(message))}", err=True)


class LogLines(logging.Handler):
    """Shows what the library logs: a line on stderr, marked as a note from warnings on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = printable(record.getMessage())
            click.echo(f"note: {text}" if record.levelno >= logging.WARNING else text, err=True)
        except Exception:
            self.handleError(record)


def _show_log() -> None:
    """Show records of the library from INFO on, once however often this is called."""
    logger = logging.getLogger("ftt_hub")
    if not any(isinstance(handler, LogLines) for handler in logger.handlers):
        logger.addHandler(LogLines())
    logger.setLevel(logging.INFO)
    logger.propagate = False


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ftt-hub")
def cli() -> None:
    """Diff vectors as transfer adapters: fine-tuning that outlives its base model."""


def main() -> None:
    """Run the command line; our errors become one line and an exit code."""
    warnings.showwarning = _note
    _show_log()
    try:
        code = cli.main(standalone_mode=False)
    except FttError as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(code if isinstance(code, int) else 0)  # the code of ctx.exit(), or a return value
