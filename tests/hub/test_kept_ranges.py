"""The room that kept ranges take is bounded, and nothing is lost but time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from ftt_hub.errors import FttError
from ftt_hub.hub import kept

COMMIT = "c" * 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    return tmp_path / "ftt-hub" / "ranges"


def keep(number: int, size: int = 1000) -> None:
    data = bytes([number % 256]) * size
    kept.keep("org/a", COMMIT, f"file{number}", 0, data, size)


def held(number: int, size: int = 1000) -> bytes | None:
    return kept.kept("org/a", COMMIT, f"file{number}", 0, size)


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def age(folder: Path, seconds: float) -> None:
    for path in folder.glob("*/*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_the_ranges_never_outgrow_their_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.VARIABLE, "20KB")
    for number in range(100):
        keep(number)
        assert taken(home) <= 20_000 + 20_000 // 16 + 1000
    assert held(99) == bytes([99]) * 1000


def test_what_was_used_stays_and_what_was_not_goes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kept.VARIABLE, "1MB")
    for number in range(10):
        keep(number)
    age(home, 3 * 86_400)
    assert held(4) == bytes([4]) * 1000  # it is used, and so is young again
    kept.prune(4_000)
    assert held(4) is not None
    assert taken(home) <= 4_000


def test_room_for_nothing_keeps_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.VARIABLE, "0")
    keep(1)
    assert held(1) is None
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "size"), [("", kept.DEFAULT_BYTES), ("7", 7), ("2MB", 2_000_000), ("1g", 10**9)]
)
def test_the_room_is_a_size(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.VARIABLE, text)
    assert kept.capacity() == size
    monkeypatch.setenv(kept.VARIABLE, "plenty")
    with pytest.raises(FttError, match="FTT_HUB_RANGES_SIZE: not a size"):
        kept.capacity()
