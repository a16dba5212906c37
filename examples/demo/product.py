"""The product as its users meet it: the `ftt-hub` commands, and the Python class that loads."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from transformers import PreTrainedModel

from demo.errors import DemoError
from demo.terminal import out

_OFFLINE = {"HF_HUB_OFFLINE": "1"}  # the demo's ids exist on no Hub


@dataclass(frozen=True)
class Product:
    """ftt-hub with a local folder as its registry; commands run in the cache folder.

    Every command is printed before it runs, with paths relative to `cache`, so that the lines
    can be repeated by hand after `cd`.
    """

    cache: Path

    @property
    def registry(self) -> Path:
        """The folder that adapters are published to."""
        return self.cache / "registry"

    def run(self, *arguments: str | Path, registry: bool = False) -> None:
        """Print and run one `ftt-hub` command; its output goes to the terminal.

        Raises:
            DemoError: The command is not installed, or ends with another exit code than 0.
        """
        words = self._words(arguments, registry=registry)
        out.print(f"\n[bold]$ {shlex.join(words)}[/bold]", soft_wrap=True)
        code = self._execute(words, quiet=False)
        if code:
            raise DemoError(f"`ftt-hub {words[1]}` ended with exit code {code}")

    def accepts(self, adapter: Path) -> bool:
        """Tell whether a folder is an intact adapter of this version of ftt-hub, silently."""
        return self._execute(self._words(("verify", adapter), registry=False), quiet=True) == 0

    def load(self, ref: str, *, target: Path, scale: float = 1.0) -> PreTrainedModel:
        """Load `target` with `scale` times the published diff vector added."""
        import ftt_hub  # here, so that a broken installation shows up as one failing step

        model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            ref, base_model=str(target), scale=scale, registry=str(self.registry)
        )
        return cast("PreTrainedModel", model)

    def _words(self, arguments: tuple[str | Path, ...], *, registry: bool) -> list[str]:
        words = ["ftt-hub", *(self.shown(argument) for argument in arguments)]
        return [*words, "--registry", self.shown(self.registry)] if registry else words

    def shown(self, argument: str | Path) -> str:
        """Return a path below the cache relative to it, anything else as it is."""
        if isinstance(argument, Path) and argument.is_relative_to(self.cache):
            return f"./{argument.relative_to(self.cache).as_posix()}"  # no Hub ref, a folder
        return str(argument)

    def _execute(self, words: list[str], *, quiet: bool) -> int:
        """Run one command in the cache folder, from the environment of this very Python."""
        command = shutil.which(words[0], path=Path(sys.executable).parent)
        if command is None:
            raise DemoError("ftt-hub is not installed in this environment: run `make demo`")
        out.file.flush()
        sink = subprocess.DEVNULL if quiet else None
        environment = os.environ | _OFFLINE
        environment.pop("TQDM_DISABLE", None)
        return subprocess.run(
            [command, *words[1:]],
            cwd=self.cache,
            env=environment,
            stdout=sink,
            stderr=sink,
            check=False,
        ).returncode
