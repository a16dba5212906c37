"""NaN and infinity inside JSON values, in the form that transformers 5 writes and reads.

JSON has no such numbers. transformers stores ``{"__float__": "Infinity"}`` in `config.json`
(`PreTrainedConfig._encode_special_floats`); manifests use the same form, so that they stay JSON.
"""

from __future__ import annotations

import math
from typing import Any

_KEY = "__float__"
_VALUES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def encoded_floats(value: Any) -> Any:
    """A JSON value with every NaN and infinity as an object that names it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_KEY: _name(value)}
    if isinstance(value, dict):
        return {key: encoded_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded_floats(item) for item in value]
    return value


def decoded_floats(value: Any) -> Any:
    """The inverse of `encoded_floats`; objects that name no such number stay as they are."""
    if isinstance(value, dict):
        if value.keys() == {_KEY} and isinstance(value[_KEY], str):
            return _VALUES.get(value[_KEY], value)
        return {key: decoded_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decoded_floats(item) for item in value]
    return value
