"""JSON Schemas (2020-12) of the files in a transfer adapter, shipped with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema `name`, e.g. ``"adapter_config"`` or ``"index"``."""
    import json

    text = Path(__file__).with_name(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
