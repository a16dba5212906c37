"""Loading m_t + Δ against loading m_t alone, each in a process of its own.

python benchmarks/load.py [--size 134m|1.1b] [--repeat 3] [--threads 2]

Sides: `plain` is transformers' from_pretrained(target); `transfer` is AutoTransferModel;
`native` is from_pretrained(target) and load_adapter; `live` is from_pretrained(target) and
apply_to; `three models` is how it is done by hand. Seconds are those of the call, of the call
until every weight has been read once (a plain load only maps them), and of the whole process,
imports included; memory is the peak of anonymous pages, less what the imports took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SIZES = {
    "134m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
             "tie_word_embeddings": True},
    "1.1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
             "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
             "tie_word_embeddings": False},
}  # fmt: skip
SIDES = ("plain", "transfer", "native", "live", "three models")


def make_models(root: Path, size: str) -> None:
    """m_s, m'_s and m_t in bf16: Δ σ = 2e-4, drift σ = 1e-3."""
    import torch
    import transformers

    import ftt_hub

    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES[size], max_position_embeddings=2048)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(root / "source", max_shard_size="1GB")
    source = {name: p.detach().clone() for name, p in model.named_parameters()}
    for label, sigma in (("tuned", 2e-4), ("target", 1e-3)):
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(source[name] + torch.randn_like(p) * sigma)
        model.save_pretrained(root / label, max_shard_size="1GB")
    ftt_hub.extract(root / "source", root / "tuned", root / "adapter")


class Watch(threading.Thread):
    """Peak of this process's anonymous memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    @staticmethod
    def now() -> int:
        """Anonymous bytes now."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(x.split()[1]) for x in lines if x.startswith("RssAnon"))

    def run(self) -> None:
        """Look every few milliseconds."""
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.004)


def load(side: str, root: Path) -> Any:
    """One side's way of getting m_t + Δ (m_t for the plain side)."""
    from transformers import AutoModelForCausalLM

    import ftt_hub

    target, adapter = root / "target", root / "adapter"
    if side == "transfer":
        auto = ftt_hub.AutoTransferModelForCausalLM
        return auto.from_pretrained(adapter, base_model=target)
    model = AutoModelForCausalLM.from_pretrained(target)
    if side == "native":
        model.load_adapter(str(adapter))
    elif side == "live":
        ftt_hub.TransferAdapter.from_pretrained(adapter).apply_to(model)
    elif side == "three models":
        tuned, source = (
            AutoModelForCausalLM.from_pretrained(root / x) for x in ("tuned", "source")
        )
        ours, theirs = dict(tuned.named_parameters()), dict(source.named_parameters())
        for name, p in model.named_parameters():
            p.data = (p.data.float() + (ours[name].data.float() - theirs[name].data.float())).to(
                p.dtype
            )
    return model


def measure(side: str, root: Path, threads: int) -> dict[str, float]:
    """Run in a process of its own."""
    import torch
    import transformers

    import ftt_hub

    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    _ = ftt_hub.AutoTransferModelForCausalLM, transformers.AutoModelForCausalLM
    _ = transformers.LlamaForCausalLM
    watch, before = Watch(), Watch.now()
    watch.start()
    begin = time.perf_counter()
    model = load(side, root)
    loaded = time.perf_counter()
    total = sum(float(p.detach().view(-1).view(torch.int16).max()) for p in model.parameters())
    touched = time.perf_counter()
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        model(tokens)
        start = time.perf_counter()
        model(tokens)
        first = time.perf_counter() - start
    return {"load": loaded - begin, "touched": touched - begin, "peak": watch.peak - before,
            "forward": first, "check": total}  # fmt: skip


def main() -> None:
    """Make the models, run every side in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="134m")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.root, options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_models(root, options.size)
        best: dict[str, dict[str, float]] = {}
        for _ in range(options.repeat):
            for side in SIDES:
                command = [sys.executable, __file__, "--side", side, "--root", folder]
                command += ["--threads", str(options.threads)]
                begin = time.perf_counter()
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                found["process"] = time.perf_counter() - begin
                held = best.setdefault(side, found)
                best[side] = {key: min(held[key], found[key]) for key in found}
    print(f"{options.size}, {options.threads} threads, best of {options.repeat}")
    print("side          load s  touched s  process s  peak MB  forward ms")
    for side, r in best.items():
        print(
            f"{side:13} {r['load']:6.2f} {r['touched']:10.2f} {r['process']:10.2f}"
            f" {r['peak'] / 1e6:8.0f} {1e3 * r['forward']:11.1f}"
        )


if __name__ == "__main__":
    main()
