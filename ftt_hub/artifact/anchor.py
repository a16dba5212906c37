"""The source base's weights, for frames that decode against them; checked by hash before use."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.errors import IncompatibleError
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import convert

_CHUNK = 4 << 20


@dataclass
class Anchor:
    """A model that claims to be the source base.

    Attributes:
        label: How the user named it.
        tensors: Its tensors.
        read_bits: Reads its weights by name, first element and count.
        close: Releases it, where it is the container's own.
    """

    label: str
    tensors: Mapping[str, TensorInfo]
    read_bits: Callable[[str, int, int], Bits]
    close: Callable[[], None] = lambda: None
    _checked: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def bits(self, entry: TensorEntry, start: int, count: int) -> Bits:
        """The source base's bits of a run of elements, in the delta's dtype, zeros beyond its rows.

        The whole tensor is hashed when it is first asked for.

        Raises:
            IncompatibleError: The model is not the source base.
        """
        self._check(entry)
        info = self.tensors.get(entry.name)
        available = 0 if info is None else max(0, min(count, info.count - start))
        if info is None or not available:
            return np.zeros(count, entry.dtype.numpy)
        bits = convert(self.read_bits(entry.name, start, available), info.dtype, entry.dtype)
        if available == count:
            return bits
        return np.concatenate([bits, np.zeros(count - available, entry.dtype.numpy)])

    def _check(self, entry: TensorEntry) -> None:
        with self._lock:
            if entry.name in self._checked:
                return
            expected = None if entry.source is None else entry.source.sha256
            actual = self._hash(entry.name)
            if actual != expected:
                raise IncompatibleError(
                    "is not the source base of this anchored adapter",
                    where=f"{self.label}: {entry.name}",
                    expected=f"sha256 {(expected or 'none')[:16]}",
                    found=(actual or "no such tensor")[:16],
                    hint="Anchored frames decode against their source base only: name it with "
                    "--source-base (source_base= in Python).",
                )
            self._checked.add(entry.name)

    def _hash(self, name: str) -> str | None:
        info = self.tensors.get(name)
        if info is None:
            return None
        total = hashlib.sha256()
        for start in range(0, info.count, _CHUNK):
            bits = self.read_bits(name, start, min(_CHUNK, info.count - start))
            total.update(bits.view(np.uint8).data)
        return total.hexdigest()
