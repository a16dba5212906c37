"""Every error a user can cause, in one tree.

    FttError                    exit 1
    ├── CheckpointError         a model folder cannot be read
    │   └── NonFiniteError      NaN or infinity in a tensor
    ├── ExtractionError         the two checkpoints do not make a diff vector
    ├── OutputError             an output folder, disk or permission stands in the way
    ├── RefError                a reference that names nothing
    ├── RegistryError           a registry refuses or does not answer
    │   └── VersionExistsError  a published version is immutable
    ├── HubError                the Hugging Face Hub refuses or does not answer
    ├── UnsupportedError        a format version, feature or dtype this release cannot handle
    ├── DeviceMemoryError       an accelerator has no memory left
    ├── AlreadyAppliedError     a model in memory holds the adapter already
    ├── MissingExtraError       an optional dependency is not installed
    ├── RecycleError            a recipe of `recycle` cannot be carried out
    ├── TaskError               a task of `evaluate` cannot be run
    ├── IncompatibleError       exit 3: the target does not fit the adapter
    └── IntegrityError          exit 4: an adapter is damaged
        └── CodecError          a frame does not decode to what was declared

A message is one line: what happened, where, what was expected, what was found, and the next step.
"""

from __future__ import annotations

from typing import ClassVar


class FttError(Exception):
    """Base of all errors raised by ftt-hub.

    Args:
        what: What went wrong, in a few words.
        where: The file, tensor or reference concerned.
        expected: What a correct input would have shown.
        found: What was there instead.
        hint: The next step for the user.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.hint = hint
        super().__init__(self._line())

    def _line(self) -> str:
        line = self.what if self.where is None else f"{self.where}: {self.what}"
        facts = [
            f"{label} {value}"
            for label, value in (("expected", self.expected), ("found", self.found))
            if value is not None
        ]
        if facts:
            line = f"{line}: {', '.join(facts)}"
        if self.hint is not None:
            line = f"{line}. {self.hint}"
        return " ".join(line.split())


class CheckpointError(FttError):
    """A model checkpoint is missing, truncated or malformed."""


class NonFiniteError(CheckpointError):
    """A tensor holds NaN or infinity, or a sum overflows its dtype."""


class ExtractionError(FttError):
    """Source base and fine-tuned model do not make a diff vector."""


class OutputError(FttError):
    """The output cannot be written: folder not empty, disk full, no permission."""


class RefError(FttError):
    """A reference (`namespace/name[@revision]` or a path) names nothing."""


class RegistryError(FttError):
    """A registry refuses a request or does not answer."""


class VersionExistsError(RegistryError):
    """A version is published already with other content; versions are immutable."""


class HubError(FttError):
    """The Hugging Face Hub refuses a request or does not answer."""


class UnsupportedError(FttError):
    """A format version, required feature or dtype that this release cannot handle."""


class DeviceMemoryError(FttError):
    """An accelerator has no memory left for a sum or a load."""


class AlreadyAppliedError(FttError):
    """The model holds this adapter already; adding it again would double Δ."""


class MissingExtraError(FttError):
    """An optional dependency is not installed."""


class RecycleError(FttError):
    """A recipe of `recycle` cannot be carried out, or contradicts what was done before."""


class TaskError(FttError):
    """A task of `evaluate` is unknown or malformed, or its data cannot be read."""


class IncompatibleError(FttError):
    """The target model does not fit the transfer adapter."""

    exit_code = 3


class IntegrityError(FttError):
    """A transfer adapter is damaged or not what its manifest says."""

    exit_code = 4


class CodecError(IntegrityError):
    """A frame does not decode to the declared number of elements."""
