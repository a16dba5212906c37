"""The files beside config and weights of m_t + Δ: the target's, and what the adapter brings.

The adapter's files replace the target's, for users expect the fine-tuned behaviour. Where it
brings a tokenizer, processors or templates, no such file of the target stays beside them, since
transformers might prefer it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.artifact.stored_files import stored_companions
from ftt_hub.checkpoint.chat_templates import PROCESSOR_CONFIG, has_templates, without_template
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.errors import CheckpointError
from ftt_hub.support.model_files import is_code, is_processor, is_template, is_tokenizer
from ftt_hub.support.warn import warn_caller


class AdapterCompanions:
    """The companion files that an adapter brings.

    Attributes:
        paths: Path in a model folder → name in the adapter.

    Args:
        config: The adapter's manifest, validated.
        folder: The adapter's folder.
    """

    def __init__(self, config: AdapterConfig, folder: Path) -> None:
        self.paths = stored_companions(config.files)
        self._folder = folder

    def read(self, path: str) -> bytes | None:
        """A companion by its path in a model folder, ``None`` when the adapter has none."""
        name = self.paths.get(path)
        return None if name is None else (self._folder / name).read_bytes()

    def replaces(self, path: str) -> bool:
        """Whether a file of the target has no place beside the adapter's own."""
        if path in self.paths and not is_code(path):
            return True
        groups = (is_tokenizer, is_processor)
        if any(belongs(path) and any(map(belongs, self.paths)) for belongs in groups):
            return True
        return is_template(path) and self.brings_template

    @property
    def brings_template(self) -> bool:
        """Whether it has a chat template in any form."""
        return has_templates(self.read, self.paths)


def _from_target(target: ModelHeaders, brought: AdapterCompanions) -> Iterator[tuple[str, bytes]]:
    for path in target.companions:
        if brought.replaces(path):
            continue
        try:
            data = target.small_file(path)
        except CheckpointError as error:
            warn_caller(f"left out of the result: {error}")
            continue
        if data is None:
            continue
        if path == PROCESSOR_CONFIG and brought.brings_template:
            data = without_template(data)
        yield path, data


def _code(target: ModelHeaders, brought: AdapterCompanions, label: str) -> dict[str, bytes]:
    """The adapter's code where the target has no file of that name; the target's own stays."""
    found = {path: brought.read(path) or b"" for path in filter(is_code, brought.paths)}
    own = {path: target.small_file(path) for path in found if path in target.companions}
    differ = [path for path, data in own.items() if data != found[path]]
    new = {path: data for path, data in found.items() if path not in own}
    if differ:
        message = f"the target's own {', '.join(differ)} is kept, not that of {label}"
        warn_caller(message)
    if new:
        message = f"{label} brings the code {', '.join(new)}: read it before you load the result"
        warn_caller(f"{message} with trust_remote_code=True")
    return new


def companions(
    target: ModelHeaders, config: AdapterConfig, adapter: Path
) -> Iterator[tuple[str, bytes]]:
    """Path and content of every companion of the result, one in memory at a time.

    Args:
        target: The target's headers.
        config: The adapter's manifest.
        adapter: The adapter's folder.
    """
    brought = AdapterCompanions(config, adapter)
    yield from _from_target(target, brought)
    yield from _code(target, brought, config.fine_tuned.id).items()
    for path in brought.paths:
        data = None if is_code(path) else brought.read(path)
        if data is not None:
            yield path, data
