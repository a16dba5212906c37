"""Kills, interrupts, full disks and missing rights: nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from models import TinyFamily, config, drifted, random_state, save_model

import ftt_hub
from ftt_hub.artifact.index import DELTA, Block, RawTensor, TensorEntry
from ftt_hub.artifact.journal import SlotStore
from ftt_hub.checkpoint.writer import CheckpointWriter
from ftt_hub.errors import IntegrityError, OutputError
from ftt_hub.extraction.encoding import Encoder
from ftt_hub.support import staging
from ftt_hub.support.staging import partial_folder, staged_folder, write_atomic
from ftt_hub.tensors.dtypes import BF16

BIG = 24  # layers: long enough to be caught in the middle


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> TinyFamily:
    """A family with enough tensors that a run can be stopped half-way."""
    root = tmp_path_factory.mktemp("big")
    state = {}
    one = random_state(0)
    for i in range(BIG):
        for name, tensor in one.items():
            if ".layers.0." in name:
                larger = tensor.repeat(16, 1) if tensor.ndim > 1 else tensor
                state[name.replace(".0.", f".{i}.")] = larger
    state["model.embed_tokens.weight"] = one["model.embed_tokens.weight"]
    settings = config(num_hidden_layers=BIG)
    source = save_model(root / "s", state, settings)
    tuned = save_model(root / "f", drifted(state, 1, 0.01), settings)
    return TinyFamily(root, source, tuned, source, source)


def command(*arguments: object) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-c",
        "from ftt_hub.cli.main import main; main()",
        *map(str, arguments),
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished_in(slots: Path) -> set[int]:
    """Numbers of the tensors that the journals call finished."""
    lines = [line for path in slots.glob("*.journal") for line in path.read_bytes().split(b"\n")]
    return {json.loads(line)["number"] for line in lines[:-1]}


def stop_half_way(process: subprocess.Popen[str], watched: Path, how: int) -> str:
    """Send a signal once some slots are finished; fails when the run was too quick."""
    deadline = time.monotonic() + 60
    while len(finished_in(watched)) < 20:
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    return err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_extract_is_continued_to_identical_bytes(
    big: TinyFamily, tmp_path: Path, how: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, slots = tmp_path / "a", partial_folder(tmp_path / "a") / ".work" / "slots"
    process = command("extract", big.source, big.tuned, out, "--workers", 1)
    err = stop_half_way(process, slots, how)
    assert not out.exists()
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in err
    finished = finished_in(slots)

    with pytest.raises(OutputError, match="--resume"):
        ftt_hub.extract(big.source, big.tuned, out)

    redone: list[int] = []
    run = Encoder.run
    monkeypatch.setattr(Encoder, "run", lambda self, n, p: (redone.append(n), run(self, n, p))[1])
    ftt_hub.extract(big.source, big.tuned, out, resume=True)
    assert not finished & set(redone)
    assert not partial_folder(out).exists()

    monkeypatch.undo()
    ftt_hub.extract(big.source, big.tuned, tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes(), path.name


def test_a_slot_counts_as_finished_only_with_all_its_bytes(tmp_path: Path) -> None:
    """A kill may cut the journal's last line, a power cut may lose frames that it speaks of."""
    block = Block(0, 5, 8, sha256(b"frame").hexdigest())
    raw = RawTensor("BF16", sha256(b"").hexdigest())
    entries = [
        TensorEntry(f"t{n}", DELTA, BF16, (8,), raw, raw, slot=1, codec="exact", blocks=(block,))
        for n in range(3)
    ]
    with SlotStore(tmp_path) as store:
        for number, entry in enumerate(entries):
            with store.slot() as pack:
                pack.write(b"frame")
                store.commit(number, entry, {}, pack)
    (journal,), (frames,) = tmp_path.glob("*.journal"), tmp_path.glob("*.frames")

    def finished() -> list[bool]:
        with SlotStore(tmp_path) as store:
            return [store.finished(number) is not None for number in range(3)]

    assert finished() == [True, True, True]
    journal.write_bytes(journal.read_bytes()[:-20])
    assert finished() == [True, True, False]
    frames.write_bytes(b"frame")
    assert finished() == [True, False, False]
    with SlotStore(tmp_path) as store, store.slot() as pack:  # a later run, in files of its own
        pack.write(b"other")
        store.commit(2, entries[2], {"again": 1}, pack)
    with SlotStore(tmp_path) as store:
        assert store.finished(2) == (entries[2], {"again": 1})
        assert store.span(2).path.read_bytes() == b"other"
        with pytest.raises(IntegrityError):
            store.span(1)


def test_resume_refuses_inputs_or_encoders_that_changed(
    big: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a"
    run = Encoder.run

    def stop(self: Encoder, number: int, pair: object) -> object:
        if number > 30:
            raise KeyboardInterrupt
        return run(self, number, pair)

    monkeypatch.setattr(Encoder, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        ftt_hub.extract(big.source, big.tuned, out, workers=1)
    monkeypatch.undo()
    monkeypatch.setattr("ftt_hub.extraction.builder.encoder_versions", lambda: {"pcodec": "0.0.1"})
    with pytest.raises(OutputError, match="encoders changed"):
        ftt_hub.extract(big.source, big.tuned, out, resume=True)


@pytest.mark.parametrize("runs", range(4))
@pytest.mark.parametrize("commits", [0, 1], ids=["killed before a tensor was done", "after one"])
def test_a_run_never_writes_into_the_files_of_an_earlier_one(
    tmp_path: Path, runs: int, commits: int
) -> None:
    """A killed run may have left a pack and no journal; its number is taken all the same."""
    block = Block(0, 8, 8, sha256(b"abcdefgh").hexdigest())
    raw = RawTensor("BF16", sha256(b"").hexdigest())
    entry = TensorEntry("a", DELTA, BF16, (8,), raw, raw, slot=1, codec="exact", blocks=(block,))
    for _ in range(runs):
        with SlotStore(tmp_path) as store, store.slot() as pack:
            pack.write(b"12345678")
            if commits:
                store.commit(0, entry, {}, pack)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len([name for name in before if name.endswith(".frames")]) == runs
    with SlotStore(tmp_path) as store, store.slot() as pack:
        pack.write(b"abcdefgh")
        store.commit(0, entry, {}, pack)
    for name, data in before.items():
        assert (tmp_path / name).read_bytes() == data
    with SlotStore(tmp_path) as store:
        span = store.span(0)
    assert span.path.read_bytes()[span.start : span.start + span.length] == b"abcdefgh"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_apply_leaves_no_model_and_a_second_one_succeeds(
    big: TinyFamily, tmp_path: Path, how: int
) -> None:
    ftt_hub.extract(big.source, big.tuned, tmp_path / "a")
    out = tmp_path / "m"
    process = command("apply", tmp_path / "a", "--target", big.source, "--out", out, "--workers", 1)
    deadline = time.monotonic() + 60
    while not partial_folder(out).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(how)
    process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been quicker than the signal
        assert not out.exists()
        ftt_hub.apply(tmp_path / "a", big.source, out)
    assert not partial_folder(out).exists()
    assert (out / "model.safetensors").is_file()


def test_a_full_disk_is_one_line_and_keeps_what_is_done(big: TinyFamily, tmp_path: Path) -> None:
    """A file size limit makes the kernel refuse the write, as a full disk does."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        "from ftt_hub.cli.main import main; main()"
    )
    ftt_hub.extract(big.source, big.tuned, tmp_path / "a")
    words = ["apply", tmp_path / "a", "--target", big.source, "--out", tmp_path / "m"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "too large for this file system" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_no_space_left_names_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    from ftt_hub.checkpoint.writer import PlannedTensor
    from ftt_hub.tensors.dtypes import BF16

    with pytest.raises(OutputError, match=r"disk is full.*Free some space"):
        CheckpointWriter(tmp_path, [PlannedTensor("a", BF16, (4,))], max_shard_size=1000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(OutputError, match="no permission"):
        write_atomic(locked / "x", b"")


def test_a_read_only_place_is_named_also_for_root(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written|no permission|read-only"), \
            staged_folder(Path("/proc/ftt-hub-test")):  # fmt: skip
        pass


def test_two_writers_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as first:
        (first / "a").write_text("1")
        with pytest.raises(OutputError, match="another process"), staged_folder(tmp_path / "out"):
            pass
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_atomic_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(staging.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def layered(root: Path, layers: int) -> tuple[Path, Path]:
    """A pair of models of one 4 MB matrix a layer, a shard each."""
    import torch

    matrix = torch.from_numpy(
        np.random.default_rng(0).standard_normal((2048, 1024), dtype=np.float32) * np.float32(0.05)
    )
    state = {f"model.layers.{i}.mlp.up_proj.weight": matrix for i in range(layers)}
    fine = {n: t + 1e-3 * t.roll(i, 0) for i, (n, t) in enumerate(state.items())}
    settings = config(num_hidden_layers=layers)
    return (
        save_model(root / "s", state, settings, shards=layers, words=None),
        save_model(root / "f", fine, settings, shards=layers, words=None),
    )


def peak_megabytes(*arguments: object) -> int:
    """Peak resident memory of a command, as it reads it from the kernel before it ends."""
    code = (
        "import atexit, pathlib; status = pathlib.Path('/proc/self/status'); "
        "atexit.register(lambda: print(status.read_text().split('VmHWM:')[1].split()[0])); "
        "from ftt_hub.cli.main import main; main()"
    )
    words = [sys.executable, "-c", code, *map(str, arguments), "--workers", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) // 1024


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    peaks = []
    for layers in (6, 24):
        source, tuned = layered(tmp_path / str(layers), layers)
        adapter, out = tmp_path / f"a{layers}", tmp_path / f"m{layers}"
        extract = peak_megabytes("extract", source, tuned, adapter)
        apply = peak_megabytes("apply", adapter, "--target", source, "--out", out)
        peaks.append((extract, apply))
    (extract, apply), (extract_large, apply_large) = peaks
    assert extract_large < extract + 25
    assert apply_large < apply + 25
    assert max(extract_large, apply_large) < 250
