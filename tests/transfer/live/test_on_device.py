"""Sums on a device: the host's bits, the host's undo log, and a way back when memory runs out.

Where there is no CUDA device the host stands for one, so that all but the two copies is run.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from models import TinyFamily, drifted, random_state, same_bits, save_model
from random_bits import SIZE, low_bits, random_bits

import ftt_hub
from ftt_hub.errors import DeviceMemoryError, FttError, NonFiniteError
from ftt_hub.tensors import pinned, torch_delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F16, F32, DType
from ftt_hub.tensors.pinned import HostLink, Ring
from ftt_hub.transfer.live import on_device, places, undo

TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])


class SlowLink(HostLink):
    """A device whose copies arrive late: the bytes are read when somebody waits, not before."""

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []
        self.waiting: list[Any] = []
        self._lock = threading.Lock()

    def buffer(self, nbytes: int) -> torch.Tensor:
        self.buffers.append(super().buffer(nbytes))
        return self.buffers[-1]

    def copy(self, source: torch.Tensor, to: torch.Tensor) -> Any:
        arrival = _Late(source, to)
        with self._lock:
            self.waiting.append(arrival)
        return arrival

    def join(self, tensor: torch.Tensor) -> None:
        with self._lock:
            waiting, self.waiting = self.waiting, []
        for arrival in waiting:
            arrival.synchronize()


class _Late:
    def __init__(self, source: torch.Tensor, to: torch.Tensor) -> None:
        self._source, self._to, self._done = source, to, False

    def synchronize(self) -> None:
        if not self._done:
            self._to.copy_(self._source)
        self._done = True


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
def test_a_buffer_is_filled_again_only_when_its_copy_has_arrived(size: int) -> None:
    link = SlowLink()
    ring = Ring(link, buffers=2, nbytes=64)
    for seed in range(3):
        array = np.random.default_rng(seed).integers(0, 255, size).astype(np.uint8)
        assert np.array_equal(ring.send(array).numpy(), array)
    assert len(link.buffers) <= 2


def test_many_threads_share_the_buffers() -> None:
    ring, wrong = Ring(HostLink(), buffers=3, nbytes=128), []

    def send(seed: int) -> None:
        for number in range(20):
            array = np.random.default_rng(seed * 100 + number).integers(0, 1 << 15, 500)
            if not np.array_equal(ring.send(array).view(torch.int64).numpy(), array):
                wrong.append(seed)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_failed_copy_gives_its_buffer_back() -> None:
    class Broken(HostLink):
        def copy(self, source: torch.Tensor, to: torch.Tensor) -> Any:
            raise torch.OutOfMemoryError

    ring = Ring(Broken(), buffers=1, nbytes=64)
    for _ in range(3):
        with pytest.raises(torch.OutOfMemoryError):
            ring.send(np.zeros(10, np.uint8))


def tensor(bits: np.ndarray, dtype: DType, device: str) -> torch.Tensor:
    return torch.from_numpy(bits.view(np.uint8).copy()).view(TYPES[dtype.name]).to(device)


@DEVICES
@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=lambda d: d.name)
@pytest.mark.parametrize(
    ("scale", "low", "of"),
    [(1.0, False, None), (1.0, True, None), (0.5, False, None), (1.0, False, F32)],
)
def test_a_sum_on_the_device_has_the_hosts_bits_and_the_hosts_log(
    device: str, dtype: DType, scale: float, low: bool, of: DType | None
) -> None:
    kind = of or dtype
    hi = random_bits(kind, 1)
    if kind is not dtype:
        hi = (np.random.default_rng(1).standard_normal(SIZE) * 1e-3).astype(np.float32)
        hi = hi.view(np.uint32)
    block = DeltaBlock(hi, low_bits(kind) if low else None, kind)
    old = random_bits(dtype, 11)
    host = old.copy()
    torch_delta.add(host, block, dtype, scale=scale)
    log = undo.record(old, host, block, dtype, scale)
    part, ring = tensor(old, dtype, device), pinned.ring_to(torch.device(device))
    assert on_device.add(part, block, dtype, scale, ring) == log
    assert np.array_equal(on_device.host_bits(part, dtype), host)
    on_device.take_off(part, block, dtype, scale, log, ring)
    assert np.array_equal(on_device.host_bits(part, dtype), old)


@DEVICES
def test_an_overflow_on_the_device_is_refused(device: str) -> None:
    largest = np.full(4, BF16.infinity - 1, BF16.numpy)
    ring = pinned.ring_to(torch.device(device))
    with pytest.raises(NonFiniteError, match="overflows"):
        on_device.add(
            tensor(largest, BF16, device), DeltaBlock(largest, None, BF16), BF16, 1.0, ring
        )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """CUDA where there is some; else the host, taken for a device."""
    if torch.cuda.is_available():
        yield "cuda"
    else:
        monkeypatch.setattr(places, "DEVICES", frozenset({"cuda", "cpu"}))
        yield "cpu"


@pytest.fixture(scope="module")
def pair(
    family: TinyFamily, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ftt_hub.TransferAdapter, ftt_hub.TransferAdapter]:
    """Two adapters of the same source base."""
    folder = tmp_path_factory.mktemp("device")
    other = save_model(folder / "other", drifted(random_state(0), 5, 0.02))
    return (
        ftt_hub.extract(family.source, family.tuned, folder / "one"),
        ftt_hub.extract(family.source, other, folder / "two"),
    )


def load(folder: Path, device: str = "cpu") -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(device)


def wrong(model: Any, expected: Any) -> list[str]:
    mine, theirs = model.state_dict(), expected.state_dict()
    return [n for n, t in theirs.items() if not same_bits(mine[n].cpu(), t.cpu())]


def test_a_live_model_on_a_device_is_the_hosts_to_the_bit(
    device: str, family: TinyFamily, pair: Any
) -> None:
    one, two = pair
    model, expected = load(family.target, device), load(family.target)
    for verb in (
        lambda m: one.apply_to(m),
        lambda m: two.apply_to(m, scale=0.3),
        lambda m: two.set_scale(m, 1.0),
        lambda m: one.remove_from(m),
    ):
        verb(model)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(places, "DEVICES", frozenset())
            verb(expected)
        assert wrong(model, expected) == []
    two.remove_from(model)
    assert wrong(model, load(family.target)) == []


def out_of_memory(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("at", [1, 8, 20])
@pytest.mark.parametrize("verb", ["apply_to", "remove_from"])
def test_a_device_that_is_full_leaves_the_model_as_it_was(
    device: str, family: TinyFamily, pair: Any, monkeypatch: pytest.MonkeyPatch, at: int, verb: str
) -> None:
    model = load(family.target, device)
    if verb == "remove_from":
        pair[0].apply_to(model)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    send, calls = Ring.send, 0

    def full(self: Ring, array: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return send(self, array) if calls < at else out_of_memory()  # and ever after

    monkeypatch.setattr(Ring, "send", full)
    with pytest.raises(DeviceMemoryError, match=r"no memory left .* the model is as it was"):
        getattr(pair[0], verb)(model)
    assert all(torch.equal(model.state_dict()[n], t) for n, t in before.items())
    monkeypatch.undo()
    if verb == "apply_to":
        pair[0].apply_to(model)
    pair[0].remove_from(model)
    assert wrong(model, load(family.target)) == []


def test_a_device_that_is_full_while_loading_is_one_typed_error(
    family: TinyFamily, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import core_model_loading

    monkeypatch.setattr(core_model_loading, "_materialize_copy", out_of_memory)
    with pytest.raises(DeviceMemoryError, match=r"no memory left.*device_map=") as caught:
        ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            pair[0].folder, base_model=family.target
        )
    assert isinstance(caught.value, FttError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure")
def test_the_benchmark_says_that_there_is_no_device() -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "gpu_load.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "no CUDA device\n"
