"""A decision with its reasons: findings that are accepted, warned about or rejected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from ftt_hub.errors import IncompatibleError


class Status(StrEnum):
    """Outcome of one check, and of a whole report (the worst of its findings)."""

    ACCEPTED = "accepted"
    WARNED = "warned"
    REJECTED = "rejected"


_ORDER = [Status.ACCEPTED, Status.WARNED, Status.REJECTED]


DEPTHS = ("headers", "sketch", "weights", "loss")
"""How deeply a transfer can be looked at; each costs more and knows more."""


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, the outcome, and the reason.

    Attributes:
        check: Short name of the check, e.g. ``"architecture"``.
        status: Outcome.
        reason: One sentence for the user.
    """

    check: str
    status: Status
    reason: str


def accepted(check: str, reason: str) -> Finding:
    """A finding that lets the transfer pass."""
    return Finding(check, Status.ACCEPTED, reason)


def warned(check: str, reason: str) -> Finding:
    """A finding the user should know about."""
    return Finding(check, Status.WARNED, reason)


def rejected(check: str, reason: str) -> Finding:
    """A finding that forbids the transfer unless forced."""
    return Finding(check, Status.REJECTED, reason)


@dataclass(frozen=True)
class CompatibilityReport:
    """Whether an adapter fits a target, and why.

    Attributes:
        adapter: The adapter's reference.
        target: The target's reference.
        depth: What was looked at, one of `DEPTHS`.
        findings: All checks, in the order they were made.
        estimate: Bytes to download, to store and to hold in memory.
    """

    adapter: str
    target: str
    depth: str
    findings: tuple[Finding, ...]
    estimate: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The worst status of all findings."""
        return max((f.status for f in self.findings), key=_ORDER.index, default=Status.ACCEPTED)

    @property
    def verdict(self) -> str:
        """One line: the status and the reasons behind it."""
        reasons = [f.reason for f in self.findings if f.status == self.status]
        if self.status is Status.ACCEPTED:
            return "compatible"
        prefix = "compatible with warnings" if self.status is Status.WARNED else "not compatible"
        more = f" (+{len(reasons) - 3} more)" if len(reasons) > 3 else ""
        return f"{prefix}: {'; '.join(reasons[:3])}{more}"

    def raise_if_incompatible(self) -> None:
        """Raise when a finding is rejected.

        Raises:
            IncompatibleError: Names the reasons.
        """
        raise_if_rejected(self.findings, self.target)

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "adapter": self.adapter,
            "target": self.target,
            "depth": self.depth,
            "status": self.status.value,
            "verdict": self.verdict,
            "findings": [asdict(f) | {"status": f.status.value} for f in self.findings],
            "estimate": self.estimate,
        }


def raise_if_rejected(findings: Iterable[Finding], target: str) -> None:
    """Raise for the rejected findings.

    Raises:
        IncompatibleError: At least one finding is rejected.
    """
    reasons = [f.reason for f in findings if f.status is Status.REJECTED]
    if reasons:
        more = f" (+{len(reasons) - 3} more)" if len(reasons) > 3 else ""
        raise IncompatibleError(
            f"the adapter does not fit: {'; '.join(reasons[:3])}{more}",
            where=target,
            hint="Choose another target, or pass --force (force=True) if you know better.",
        )
