"""Progress on stderr: bars on a terminal, lines elsewhere, neither when switched off."""

from __future__ import annotations

import logging
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ftt_hub.cli.main import LogLines
from ftt_hub.cli.progress import Bar, Lines, progress_bar
from models import TinyFamily

from ftt_hub.support.progress import Silent

MAIN = "from ftt_hub.cli.main import main; main()"
STAGES = """
import sys
from ftt_hub.cli.progress import progress_bar
with progress_bar() as bar:
    bar.start("applying", 2_000_000)
    bar.advance(1_000_000)
    bar.finish()
    print("Fetching 3 files", file=sys.stderr)
    bar.start("training", 30, "steps")
    bar.advance(12)
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*words: object, **variables: str) -> str:
    """What a Python process writes to stderr when that is a terminal."""
    ours, theirs = pty.openpty()
    defaults = {"COLUMNS": "120", "TERM": "xterm", "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    environment = {**os.environ, **defaults, **variables}
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1.0)[0]:
            continue
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait(timeout=30) == 0, written.decode()
    return ESCAPES.sub("", written.decode())


def test_a_terminal_gets_a_bar_with_the_unit_of_each_stage() -> None:
    shown = on_a_terminal("-c", STAGES)
    assert "applying" in shown
    assert "2.0/2.0 MB" in shown
    assert "12 of 30 steps" in shown


def test_a_finished_stage_is_not_drawn_again_below_what_others_write() -> None:
    before, _, after = on_a_terminal("-c", STAGES).partition("Fetching 3 files")
    assert "applying" in before
    assert "applying" not in after


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_the_hub_client_variable_switches_bars_off(value: str) -> None:
    shown = on_a_terminal("-c", STAGES, HF_HUB_DISABLE_PROGRESS_BARS=value)
    assert shown.strip() == "Fetching 3 files"


def test_a_command_draws_its_bar_on_a_terminal(family: TinyFamily, tmp_path: Path) -> None:
    words = ("-c", MAIN, "extract", family.source, family.tuned)
    assert "extracting" in on_a_terminal(*words, tmp_path / "one")
    quiet = on_a_terminal(*words, tmp_path / "two", HF_HUB_DISABLE_PROGRESS_BARS="1")
    assert "extracting" not in quiet


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_a_line_comes_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.start("applying", 4_000_000_000)
    for _ in range(40):
        clock.now += 1
        lines.advance(100_000_000)
    lines.finish()
    assert capsys.readouterr().err.splitlines() == [
        "applying: 25%, 1.00 GB of 4.00 GB, about 0:30 left",
        "applying: 50%, 2.00 GB of 4.00 GB, about 0:20 left",
        "applying: 75%, 3.00 GB of 4.00 GB, about 0:10 left",
        "applying: 100%, 4.00 GB of 4.00 GB, about 0:00 left",
        "applying: done in 0:40",
    ]


def test_a_slow_stage_is_never_silent_for_more_than_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.start("training 1-2", 1000, "steps")
    for _ in range(12):
        clock.now += 10
        lines.advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "training 1-2: 1%, 6 of 1,000 steps, about 2:45:40 left",
        "training 1-2: 1%, 12 of 1,000 steps, about 2:44:40 left",
    ]


def test_a_stage_of_a_few_seconds_writes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.start("hashing", 10)
    clock.now += 9
    lines.advance(10)
    lines.finish()
    assert capsys.readouterr().err == ""


def test_the_kind_of_progress_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    with progress_bar() as shown:
        assert isinstance(shown, Lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar() as shown:
        assert isinstance(shown, Bar)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with progress_bar() as shown:
        assert isinstance(shown, Silent)


@pytest.mark.parametrize(
    ("level", "line"),
    [(logging.INFO, "fetched it"), (logging.WARNING, "note: fetched it")],
)
def test_a_log_record_is_one_plain_line(
    level: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("ftt_hub.hub", level, "", 0, "fetched\n%s", ("\x1b[2Jit",), None)
    LogLines().emit(record)
    assert capsys.readouterr().err == line.replace("it", "�[2Jit") + "\n"
