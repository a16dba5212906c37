"""What it costs to swap adapters on a model in memory, beside what the model itself costs.

A random 134M-parameter Llama in bf16 with two diff vectors (σ = 2e-4, all weights change), stored
exactly and quantized; on the CPU unless there is a GPU. The model is given back bit for bit, which
is checked.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from measure import cache_folder
from synthetic import family, make
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.routing.neighbours import Neighbours
from ftt_hub.transfer.live.arrangement import Arrangement
from ftt_hub.transfer.live.stack import stack_of

SHARD = 200_000_000


def seconds(function: Callable[[], object], rounds: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print one line a codec, and the model's own costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cache = cache_folder()
    source, tuned, _ = family(cache, "134M", SHARD)
    other = make(cache / "synthetic-134M" / "other", "134M", drift=2e-4, seed=3, shard=SHARD)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto").to(device).eval()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    ids = torch.randint(0, 32000, (4, 128), generator=torch.Generator().manual_seed(0)).to(device)
    print(f"{torch.get_num_threads()} threads, {device}, {options.rounds} rounds, medians")
    with torch.inference_mode():
        forward = seconds(lambda: model(input_ids=ids), options.rounds)
        tokens = seconds(
            lambda: model.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=0), 1
        )
    print(f"forward pass of 4 × 128 tokens {forward:.2f} s; 16 new tokens each {tokens:.2f} s")
    generator = np.random.default_rng(0)
    rows = {str(n): generator.standard_normal(576).astype(np.float32) for n in range(200)}
    near = Neighbours(
        lambda texts: np.stack([rows[t] for t in texts]), [(n % 2, str(n)) for n in range(100)]
    )
    asked = [str(n) for n in range(100, 108)]
    found = seconds(lambda: near.nearest(asked, 5), 50)
    print(f"nearest of 100 examples for 8 texts, features apart: {1e3 * found:.2f} ms\n")
    print(
        f"{'codec':10} {'MB':>6} {'match s':>8} {'put on s':>9} {'swap s':>7} {'off s':>6} "
        f"{'undo MB':>8}"
    )
    for codec in ("exact", "quantized"):
        folders = []
        for number, model_folder in enumerate((tuned, other)):
            out = cache / "work" / f"{codec}-{number}"
            shutil.rmtree(out, ignore_errors=True)
            ftt_hub.extract(source, model_folder, out, codec=codec, sketch=False).close()
            folders.append(out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapters = [ftt_hub.TransferAdapter.from_pretrained(f).opened for f in folders]
            start = time.perf_counter()
            arrangement = Arrangement(model, adapters)
            matched = time.perf_counter() - start
        on = seconds(lambda held=arrangement: held.set((1.0, None)), 1)
        undo = stack_of(model).log_bytes
        turns = iter([(None, 1.0), (1.0, None)] * options.rounds)
        swap = seconds(lambda held=arrangement, t=turns: held.set(next(t)), 2 * options.rounds)
        off = seconds(arrangement.close, 1)
        size = sum((f / "adapter_model.safetensors").stat().st_size for f in folders) / 2e6
        print(
            f"{codec:10} {size:6.0f} {matched:8.2f} {on:9.2f} {swap:7.2f} {off:6.2f} "
            f"{undo / 1e6:8.1f}"
        )
        same = all(torch.equal(before[name], t) for name, t in model.named_parameters())
        print(f"{'':10} given back bit for bit: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
