"""Warnings name the line of the user, and sizes are written and read in one way."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
from models import TinyFamily

import ftt_hub
from ftt_hub.support.sizes import format_bytes, parse_bytes
from ftt_hub.support.warn import warn_caller

ROOT = Path(__file__).parents[2]


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_a_warning_names_the_line_outside_the_package() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_caller("change this")
        expected = line() - 1
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, expected)]


def test_a_context_manager_of_the_package_names_the_line_that_enters_it() -> None:
    code = "@contextmanager\ndef opened():\n    warn_caller('inside')\n    yield\n"
    names = {
        "__name__": "ftt_hub.some.module",
        "warn_caller": warn_caller,
        "contextmanager": contextlib.contextmanager,
    }
    exec(code, names)
    opened: Any = names["opened"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opened():
            expected = line() - 1
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, expected)]


def test_a_forced_application_names_the_line_that_forced_it(
    family: TinyFamily, tmp_path: Path
) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "a").close()
    adapter, out = str(tmp_path / "a"), tmp_path / "out"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ftt_hub.apply(adapter, family.stranger, out, force=True)
        expected = line() - 1
    [forced] = [w for w in caught if "forced in spite of" in str(w.message)]
    assert (forced.filename, forced.lineno) == (__file__, expected)


def test_nothing_in_the_package_counts_frames_by_hand() -> None:
    files = [*ROOT.glob("ftt_hub/**/*.py"), *ROOT.glob("cli/*.py")]
    assert files
    assert not [str(f) for f in files if "stacklevel=" in f.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("500", 500),
        ("500B", 500),
        ("500MB", 500_000_000),
        (" 1.5 gb ", 1_500_000_000),
        ("2GiB", 2 << 30),
        ("3k", 3000),
        ("1T", 10**12),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e3", "1 PB", "1..5", "9" * 16, "٣MB", "5MBx"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 5GB"):
        parse_bytes(text)


@pytest.mark.parametrize("count", [0, 999, 1000, 123_400, 61_000_000, 5 * 10**9, 7 * 10**12])
def test_what_is_written_can_be_read_again(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == count
