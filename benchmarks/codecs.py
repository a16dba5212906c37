"""Our codecs beside every peer's on the same tensors, in one run: bits, error, loss, speed.

    python benchmarks/codecs.py SOURCE TUNED TARGET --text HELD_OUT.txt --out results.json

SOURCE, TUNED and TARGET are checkpoint folders m_s, m'_s and m_t; the loss is that of
m_t + Δ̂ on the text. Without TARGET and --text only sizes, errors and speeds are measured.
Rows go to --out as they are made, and those already in it (of the same models and text!) are not
made again. --calibration is a text to train BitDelta's scales on (`bitdelta.py`): another row.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitdelta
import numpy as np
import peers
import torch
from lossless import bound, lossless
from matrices import Pair
from stored import Stored

from ftt_hub.codecs.abc import Codec, Place
from ftt_hub.codecs.lossy.rate import Survey, Tally, step_for_bits, step_for_error
from ftt_hub.codecs.quantized import (
    NEAREST,
    ROTATED,
    STOCHASTIC,
    QuantizedCodec,
    delta_values,
    round_step,
)
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16

STOCHASTIC_STEPS = (1.5, 3, 6, 12, 24, 48, 96)
ROTATED_BITS = (0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
NEAREST_STEPS = (0.25, 0.7, 1.5)


class Loss:
    """Held-out loss of m_t + Δ̂, a window at a time, so that two of them can be paired."""

    def __init__(self, target: Path, text: Path, tokens: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.bfloat16).eval()
        ids = AutoTokenizer.from_pretrained(target)(text.read_text(encoding="utf-8"))["input_ids"]
        count = min(tokens, len(ids)) // 256
        self.windows = torch.tensor(ids[: count * 256]).view(count, 256)
        self.parameters = dict(self.model.named_parameters())
        self.base = {n: p.detach().clone() for n, p in self.parameters.items()}

    def with_delta(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Mean loss of each window, nats per token."""
        with torch.inference_mode():
            for name, parameter in self.parameters.items():
                base = self.base[name]
                if name in values:
                    shape = base.shape
                    base = (base.float() + torch.from_numpy(values[name]).view(shape)).bfloat16()
                parameter.copy_(base)
            losses = []
            for batch in torch.split(self.windows, 4):
                logits = self.model(input_ids=batch, use_cache=False).logits[:, :-1].float()
                each = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none"
                )
                losses.append(each.view(len(batch), -1).mean(1))
        return torch.cat(losses).numpy()


def ours(
    pair: Pair, nearest: Sequence[float], stochastic: Sequence[float], rotated: Sequence[float]
) -> dict[str, QuantizedCodec]:
    """The quantized codecs to measure: steps in units of rms(Δ), rotated by bits per weight."""
    survey = Survey()
    for _, _, block, place in pair.blocks():
        tally = Tally()
        tally.add(block, place.columns)
        sums = delta.compute(place.source, place.tuned, block.dtype)[1]
        survey.histograms.append(tally.histogram())
        survey.spreads += tally.spreads
        survey.delta_square += sums.delta_square
        survey.source_square += sums.source_square
    found = {}
    for rounding, steps in ((NEAREST, nearest), (STOCHASTIC, stochastic)):
        for step in steps:
            codec = QuantizedCodec(round_step(step * survey.rms, rounding), rounding)
            found[f"ours: {rounding}, step {step:g} rms"] = codec
    for bits in rotated:
        step = round_step(step_for_bits(survey, bits * pair.count, ROTATED), ROTATED)
        found[f"ours: rotated, {bits:g} bits"] = QuantizedCodec(step, ROTATED, rms=survey.rms)
    wanted = int4_error(pair) ** 2 * survey.delta_square
    found["ours: nearest at int4's error"] = QuantizedCodec(
        round_step(step_for_error(survey, wanted, NEAREST), NEAREST), NEAREST
    )
    return found


def int4_error(pair: Pair) -> float:
    """Relative error of int4."""
    error = total = 0.0
    for _, shape, block, _ in pair.blocks():
        values = delta_values(block).reshape(shape)
        error += float(np.square(peers.int4(values, 0).values - values, dtype=np.float64).sum())
        total += float(np.square(values, dtype=np.float64).sum())
    return math.sqrt(error / total)


Store = Callable[[DeltaBlock, Place, tuple[int, ...]], Stored]


def measure(pair: Pair, store: Store, loss: Loss | None) -> dict[str, Any]:
    """Bits, errors and loss of one way to store Δ."""
    values: dict[str, np.ndarray] = {}
    bits = error = total = weights = 0.0
    for name, shape, block, place in pair.blocks():
        stored, exact = store(block, place, shape), delta_values(block).reshape(shape)
        bits += stored.bits
        error += float(np.square(stored.values - exact, dtype=np.float64).sum())
        total += float(np.square(exact, dtype=np.float64).sum())
        source = delta_values(DeltaBlock(place.source, None, BF16))
        weights += float(np.square(source, dtype=np.float64).sum())
        values[name] = stored.values
    result: dict[str, Any] = {
        "bits": bits / pair.count,
        "relative_error": math.sqrt(error / total),
        "noise": math.sqrt(error / weights),
    }
    if loss is not None:
        result["windows"] = loss.with_delta({**values, **small(pair)}).tolist()
    return result


def small(pair: Pair) -> dict[str, np.ndarray]:
    """Exact deltas of the 1-D tensors."""
    found = {}
    for info in pair.tuned.tensors.values():
        if len(info.shape) != 2:
            before = pair.source.read_bits(info.name, 0, info.count)
            after = pair.tuned.read_bits(info.name, 0, info.count)
            found[info.name] = delta_values(delta.compute(before, after, info.dtype)[0])
    return found


def lossy(
    pair: Pair,
    loss: Loss | None,
    given: argparse.Namespace,
    rows: list[dict[str, Any]],
    keep: Callable[[], object],
) -> None:
    """Every lossy method, those that draw lots with several seeds; rows that are there are kept."""
    seeds = given.seeds
    known = {(row["what"], row["seed"]) for row in rows}

    def add(name: str, seed: int, store: Any) -> None:
        if (name, seed) in known:
            return
        row = {"what": name, "seed": seed, **measure(pair, store, loss)}
        rows.append(row)
        keep()
        shown = {k: v for k, v in row.items() if k != "windows"}
        mean = f" loss {np.mean(row['windows']):.4f}" if "windows" in row else ""
        print(json.dumps(shown, ensure_ascii=False) + mean, flush=True)

    add("Δ itself", 0, lambda b, p, s: Stored(delta_values(b).reshape(s), 16 * b.hi.size))
    for name in peers.LOSSY if given.peers is None else given.peers:
        method = peers.LOSSY[name]
        for seed in range(seeds if name in peers.RANDOM else 1):
            add(name, seed, lambda b, p, s, m=method, k=seed: m(delta_values(b).reshape(s), k))
    trained = "BitDelta, trained scales"
    if given.calibration is not None and (trained, 0) not in known:
        scales = bitdelta.train(given.source, given.tuned, given.calibration)
        add(trained, 0, lambda b, p, s: bitdelta.store(delta_values(b).reshape(s), scales[p.name]))
    if given.peers_only:
        return
    for name, codec in ours(pair, given.nearest, given.steps, given.rotated).items():
        for seed in range(1 if codec.rounding == NEAREST else seeds):
            chosen = replace(codec, seed=seed)

            def store(b: DeltaBlock, p: Place, s: tuple[int, ...], c: Codec = chosen) -> Any:
                frame = c.encode(b, p)
                values = delta_values(c.decode(frame, b.hi.size, b.dtype)).reshape(s)
                return Stored(values, 8 * len(frame))

            add(name, seed, store)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--text", type=Path, help="held-out text")
    parser.add_argument("--tokens", type=int, default=51_200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nearest", type=float, nargs="*", default=NEAREST_STEPS)
    parser.add_argument("--steps", type=float, nargs="*", default=STOCHASTIC_STEPS)
    parser.add_argument("--rotated", type=float, nargs="*", default=ROTATED_BITS)
    parser.add_argument("--peers", nargs="*", choices=peers.LOSSY, help="default: all")
    parser.add_argument("--calibration", type=Path, help="text to train BitDelta's scales on")
    parser.add_argument("--peers-only", action="store_true", help="no rows of ours")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th matrix only")
    parser.add_argument("--bound", action="store_true", help="print the rate–distortion bound too")
    parser.add_argument("--skip-lossless", action="store_true")
    parser.add_argument("--lossless-only", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    pair = Pair(given.source, given.tuned, given.every)
    results: dict[str, Any] = {"matrices": len(pair.tensors), "weights": pair.count}
    if given.bound:
        results["bound"] = []
        for row in bound(pair):
            results["bound"].append(row)
            print(json.dumps(row), flush=True)
    if not given.skip_lossless:
        results["lossless"] = lossless(pair)
        for row in results["lossless"]:
            print(json.dumps(row, ensure_ascii=False), flush=True)
    earlier = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    if given.skip_lossless and "lossless" in earlier:
        results["lossless"] = earlier["lossless"]
    loss = None
    if given.target is not None and given.text is not None:
        loss = Loss(given.target, given.text, given.tokens)
        results["tokens"] = int(loss.windows.numel())
        results["target"] = earlier.get("target") or loss.with_delta({}).tolist()
        print(f"m_t alone: loss {np.mean(results['target']):.4f}", flush=True)
    results["lossy"] = rows = earlier.get("lossy", [])

    def keep() -> None:
        given.out.write_text(json.dumps(results, ensure_ascii=False, indent=1), encoding="utf-8")

    keep()
    if not given.lossless_only:
        lossy(pair, loss, given, rows, keep)


if __name__ == "__main__":
    main()
