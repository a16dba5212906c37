"""Δ on a CUDA device: GB/s of loading and of adding, beside the bus and a plain load.

python benchmarks/gpu_load.py [--model 134M|1.1B] [--repeat 3] [--device cuda:0]

`bus` copies pinned memory to the device; `plain` is transformers' from_pretrained(target) there;
`transfer` is AutoTransferModel, which adds Δ on the host before the weights go over; `live` is
apply_to on the plain model: frames are decoded by threads, sent pinned, and added on the device.
GB are those of the model's weights. Without a CUDA device it says so and stops.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from load import made
from synthetic import SIZES

BUS_BYTES = 1 << 30


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds until the device is done, and the result."""
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    result = work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin, result


def bus(device: torch.device) -> float:
    """GB/s of copies from pinned memory."""
    source = torch.empty(BUS_BYTES, dtype=torch.uint8, pin_memory=True)
    to = torch.empty(BUS_BYTES, dtype=torch.uint8, device=device)
    to.copy_(source)
    seconds, _ = timed(lambda: to.copy_(source, non_blocking=True), device)
    return BUS_BYTES / seconds / 1e9


def measure(root: Path, device: torch.device) -> dict[str, float]:
    """GB/s of every side, once."""
    from transformers import AutoModelForCausalLM

    import ftt_hub

    places = {"": device}
    plain_seconds, model = timed(
        lambda: AutoModelForCausalLM.from_pretrained(root / "target", device_map=places), device
    )
    size = sum(p.nbytes for p in model.parameters()) / 1e9
    adapter = ftt_hub.TransferAdapter.from_pretrained(root / "adapter")
    live_seconds, _ = timed(lambda: adapter.apply_to(model), device)
    transfer_seconds, streamed = timed(
        lambda: ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            root / "adapter", base_model=root / "target", device_map=places
        ),
        device,
    )
    pairs = zip(model.parameters(), streamed.parameters(), strict=True)
    if not all(torch.equal(mine, theirs) for mine, theirs in pairs):
        raise SystemExit("the sum on the device is not the host's")
    return {
        "bus": bus(device),
        "plain": size / plain_seconds,
        "transfer": size / transfer_seconds,
        "live": size / live_seconds,
    }


def main() -> None:
    """Make the models, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=SIZES, default="134M")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device")
        return
    device = torch.device(options.device)
    best: dict[str, float] = {}
    root = made(options.model)
    for _ in range(options.repeat):
        for side, speed in measure(root, device).items():
            best[side] = max(speed, best.get(side, 0.0))
    print(f"{options.model} on {torch.cuda.get_device_name(device)}, best of {options.repeat}")
    for side, speed in best.items():
        print(f"{side:9} {speed:7.2f} GB/s")


if __name__ == "__main__":
    main()
