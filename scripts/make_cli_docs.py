"""Writes docs/cli.md from the help texts of the commands; a test keeps it true."""

from __future__ import annotations

from pathlib import Path

import click
from ftt_hub.cli.main import COMMANDS, cli

OUT = Path(__file__).parent.parent / "docs" / "cli.md"
HEAD = """\
# The command line

Generated from the commands' own help by `python scripts/make_cli_docs.py`.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 error (one line), 2
usage, 3 incompatible, 4 integrity failure, 130 interrupted. Models and adapters are folders or
references `namespace/name[@revision]`; `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE`
are honoured, `FTT_HUB_REGISTRY` names the registry.
"""


def render() -> str:
    """The page's text."""
    parts = [HEAD, _help(cli, "ftt-hub")]
    root = click.Context(cli, info_name="ftt-hub")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        if command is not None:
            parts.append(f"\n## ftt-hub {name}\n\n{_help(command, f'ftt-hub {name}')}")
        for sub, inner in getattr(command, "commands", {}).items():
            path = f"ftt-hub {name} {sub}"
            parts.append(f"\n### {path}\n\n{_help(inner, path)}")
    return "\n".join(parts)


def _help(command: click.Command, path: str) -> str:
    context = click.Context(
        command, info_name=path, terminal_width=98, help_option_names=["-h", "--help"]
    )
    return f"```text\n{command.get_help(context).rstrip()}\n```\n"


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
