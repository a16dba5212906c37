"""Fixtures shared by all tests: no network, no user caches, tiny models with real structure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin make a busy machine crawl
os.environ.pop("FTT_HUB_REGISTRY", None)

from models import TinyFamily, make_family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> TinyFamily:
    """m_s, m'_s, m_t and an unrelated model of the same shape; read only."""
    return make_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def new_family(tmp_path: Path) -> Callable[..., TinyFamily]:
    """A factory of families that a test may change."""
    return lambda **options: make_family(tmp_path / "family", **options)
