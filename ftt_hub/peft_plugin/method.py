"""What PEFT calls the method, and what the names of its parameters begin with."""

from __future__ import annotations


class _TransferType(str):
    """PEFT's name of the method, with the `.value` of the enum members it stands among."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """As enum members have it."""
        return str(self)


TRANSFER = _TransferType("TRANSFER")
PREFIX = "transfer_"
