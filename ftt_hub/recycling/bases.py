"""The base versions of a recipe: that they are versions of one model, and their identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.headers import TOKENIZER_FILES, ModelHeaders
from ftt_hub.errors import IncompatibleError
from ftt_hub.support.findings import (
    CompatibilityReport,
    Finding,
    Status,
    accepted,
    rejected,
    warned,
)
from ftt_hub.support.paths import PathLike
from ftt_hub.transfer import checks
from ftt_hub.verdict.verify import verify

_WEIGHTS = (".safetensors", ".bin")
_HINT = "Name versions of one model as bases."


def compare(first: ModelHeaders, second: ModelHeaders) -> CompatibilityReport:
    """Whether a diff vector of the first base version can be added to the second; reads no weight.

    The adapter itself is verified again, with its sketch, before it is added.
    """
    findings = (
        checks.check_architecture(first.config, second.config),
        *checks.check_quantization(second),
        _check_tensors(first, second),
        *_check_shapes(first, second),
        *checks.check_config(first.config, second.config),
    )
    return CompatibilityReport(first.label, second.label, "headers", findings)


def require_compatible(reports: Iterable[CompatibilityReport]) -> None:
    """Refuse base versions between which nothing can be transferred.

    Raises:
        IncompatibleError: Names the first such pair and the reasons.
    """
    for report in reports:
        if report.status is Status.REJECTED:
            raise IncompatibleError(
                f"{report.adapter} → {report.target}: {report.verdict}",
                hint=_HINT,
            )


def check_transfer(adapter: Path, base: PathLike, title: str, say: Callable[[str], None]) -> None:
    """Verify an adapter against the next base version by its sketch, and report the verdict.

    Args:
        adapter: Folder of the adapter to recycle.
        base: The base version.
        title: What is recycled, for messages.
        say: Receives the verdict in one line.

    Raises:
        IncompatibleError: The adapter does not fit.
    """
    report = verify(adapter, base, depth="sketch")
    if not isinstance(report, CompatibilityReport):
        return
    say(f"{title} on {base}: {report.verdict}")
    if report.status is Status.REJECTED:
        raise IncompatibleError(f"{title}: {report.verdict}", where=base, hint=_HINT)


def _check_tensors(first: ModelHeaders, second: ModelHeaders) -> Finding:
    missing = sorted(first.tensors.keys() - second.tensors.keys())
    if missing:
        count = f"{len(missing)} of {len(first.tensors)} tensors are missing"
        return rejected("tensors", f"{count}, such as {missing[0]}")
    extra = sorted(second.tensors.keys() - first.tensors.keys())
    if extra:
        return warned("tensors", f"{len(extra)} tensors are new, such as {extra[0]}")
    return accepted("tensors", "the same tensors")


def _check_shapes(first: ModelHeaders, second: ModelHeaders) -> list[Finding]:
    rows = tuple(vocabulary.vocabulary_size(model.config) for model in (first, second))
    findings = []
    for name, info in first.tensors.items():
        other = second.tensors.get(name)
        if other is None or other.shape == info.shape:
            continue
        shapes = f"{name} is {list(info.shape)} in the one and {list(other.shape)} in the other"
        embeds = info.shape[1:] == other.shape[1:] and (info.shape[0], other.shape[0]) == rows
        findings.append((warned if embeds else rejected)("shapes", shapes))
    return findings[:4] or [accepted("shapes", "all shapes agree")]


def identity(folder: Path, label: str, commit: str | None, digest_of: Callable[[Path], str]) -> str:
    """What a base version is: its commit on the Hub, or a digest over a folder's files.

    Args:
        folder: Folder of the model.
        label: Its name on the Hub.
        commit: Its commit there, ``None`` for a folder.
        digest_of: Returns the sha256 of a file.
    """
    if commit is not None:
        return f"{label}@{commit}"
    names = ("config.json", *TOKENIZER_FILES, "chat_template.jinja")
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.name in names or path.suffix in _WEIGHTS):
            digest.update(f"{path.name}\0{digest_of(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"
