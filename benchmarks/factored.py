"""A real LoRA of SmolLM2-135M (a few steps on Turkish) by `factored` and by `exact`.

Prints for LoRA files in float32 and bfloat16: sizes, fidelity, processor time, and which share of
the weights of base + Δ̂ differs from PEFT's `merge_and_unload()`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import ftt_hub

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))


def train(base: Path, out: Path, rank: int, steps: int) -> Path:
    """A LoRA adapter on every linear layer, in float32."""
    from demo.checkpoint import tokenize
    from demo.materials import turkish_text

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    adapted = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    )
    chosen = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=5e-4)
    tokens = tokenize(base, turkish_text())
    for step in range(steps):
        batch = tokens[step * 64 : step * 64 + 64][None]
        loss = adapted(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr)
    adapted.save_pretrained(out)
    return out


def in_bfloat16(folder: Path, out: Path) -> Path:
    """The same adapter, its weights rounded."""
    out.mkdir()
    (out / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    held = load_file(folder / "adapter_model.safetensors")
    save_file({n: t.bfloat16() for n, t in held.items()}, out / "adapter_model.safetensors")
    return out


def merged(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """PEFT's own merging."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    return dict(PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict())


def differing(folder: Path, expected: dict[str, torch.Tensor], touched: set[str]) -> float:
    """Share of the changed tensors' weights that differ from PEFT's."""
    found = {n: t for f in folder.glob("*.safetensors") for n, t in load_file(f).items()}
    wrong = sum(int((found[n] != expected[n]).sum()) for n in touched)
    return wrong / sum(found[n].numel() for n in touched)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    from demo.materials import smollm2

    warnings.simplefilter("ignore")
    base = smollm2()
    print(
        f"{'LoRA':9} {'codec':9} {'LoRA MB':>8} {'MB':>7} {'ratio':>6} {'rel-err':>9} "
        f"{'differ':>9} {'cpu s':>6} {'apply':>6}"
    )
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        long = train(base, root / "float32", arguments.rank, arguments.steps)
        for adapter in (long, in_bfloat16(long, root / "bfloat16")):
            expected = merged(base, adapter)
            size = (adapter / "adapter_model.safetensors").stat().st_size
            for codec in ("factored", "exact"):
                out = root / f"{adapter.name}-{codec}"
                start = time.process_time()
                made = ftt_hub.convert_from_peft(adapter, out, base=base, codec=codec)
                cpu = time.process_time() - start
                start = time.process_time()
                made.apply(base, root / f"{out.name}-merged")
                apply = time.process_time() - start
                entries = made.opened.container.entries.values()
                touched = {e.name for e in entries if e.slot is not None}
                share = differing(root / f"{out.name}-merged", expected, touched)
                stored = (out / "adapter_model.safetensors").stat().st_size
                error = made.config.fidelity.relative_error
                print(
                    f"{adapter.name:9} {codec:9} {size / 1e6:8.2f} {stored / 1e6:7.2f} "
                    f"{stored / size:6.3f} {error:9.2g} {share:9.2g} {cpu:6.1f} "
                    f"{apply:6.1f}"
                )


if __name__ == "__main__":
    main()
