"""The compiled inner loops, where they were built; all else works without them, more slowly.

`COMPILED` is the module `ftt_hub.kernels.compiled`, or ``None``: where no compiler was found when
the package was installed from source, where the module is older or newer than this code, and where
``FTT_HUB_PURE_PYTHON`` is set. The bits of every result are the same either way.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Of `compiled.c`; another one is not used."""


def load() -> ModuleType | None:
    """The module, if it is there, of this version and wanted."""
    if os.environ.get("FTT_HUB_PURE_PYTHON", "") not in ("", "0"):
        return None
    try:
        found = importlib.import_module("ftt_hub.kernels.compiled")
    except ImportError:
        return None
    return found if getattr(found, "VERSION", None) == VERSION else None


COMPILED: Any = load()


def usable(*arrays: NDArray[np.generic]) -> bool:
    """Whether `COMPILED` is there and can work on the memory of these arrays."""
    return COMPILED is not None and all(
        array.flags.c_contiguous and array.flags.aligned for array in arrays
    )
