"""What each of two processes does in tests/test_parallel.py; started by torchrun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from models import load_state
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

import ftt_hub
from ftt_hub.container.reader import Container

decoded: list[tuple[str, int]] = []
_decode = Container.decode


def counting(self: Container, entry: Any, number: int) -> Any:
    decoded.append((entry.name, number))
    return _decode(self, entry, number)


def local(model: Any) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {k: (v.to_local() if isinstance(v, DTensor) else v).clone() for k, v in state.items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def whole(model: Any, folder: Path) -> bool:
    """Whether the shards of all ranks together are the merged checkpoint's tensors."""
    merged = load_state(folder)
    state = {
        k: (v.full_tensor() if isinstance(v, DTensor) else v) for k, v in model.state_dict().items()
    }
    return all(torch.equal(state[k], v) for k, v in merged.items() if k in state)


def blocks() -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, _ in set(decoded):
        counts[name] = counts.get(name, 0) + 1
    return counts


def tensor_parallel(root: Path, report: dict[str, Any]) -> None:
    plan = {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=2)}
    plain = AutoModelForCausalLM.from_pretrained(root / "m", **plan)
    report["sharded"] = sum(isinstance(p, DTensor) for p in plain.parameters())
    decoded.clear()
    streamed = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
        root / "a", base_model=root / "t", **plan
    )
    report["tp_streamed"] = same(local(streamed), local(plain))
    report["tp_streamed_blocks"] = blocks()
    adapter = ftt_hub.TransferAdapter.from_pretrained(root / "a")
    live = AutoModelForCausalLM.from_pretrained(root / "t", **plan)
    before = local(live)
    decoded.clear()
    adapter.apply_to(live)
    report["tp_live_blocks"] = blocks()
    report["tp_live"] = same(local(live), local(plain))
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        report["tp_logits"] = torch.equal(live(tokens).logits, plain(tokens).logits)
    adapter.remove_from(live)
    report["tp_removed"] = same(local(live), before)


def experts(root: Path, report: dict[str, Any]) -> None:
    plan = {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=2)}
    plain = AutoModelForCausalLM.from_pretrained(root / "moe-m", **plan)
    streamed = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
        root / "moe-a", base_model=root / "moe-t", **plan
    )
    report["moe_streamed"] = same(local(streamed), local(plain))
    adapter = ftt_hub.TransferAdapter.from_pretrained(root / "moe-a")
    live = AutoModelForCausalLM.from_pretrained(root / "moe-t", **plan)
    adapter.apply_to(live)
    report["moe_live"] = same(local(live), local(plain))


def fully_sharded(root: Path, report: dict[str, Any]) -> None:
    model = AutoModelForCausalLM.from_pretrained(root / "t")
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    before = local(model)
    adapter = ftt_hub.TransferAdapter.from_pretrained(root / "a")
    decoded.clear()
    adapter.apply_to(model)
    report["fsdp_blocks"] = blocks()
    report["fsdp"] = whole(model, root / "m")
    adapter.set_scale(model, 0.25)
    adapter.remove_from(model)
    report["fsdp_removed"] = same(local(model), before)


def main(root: Path) -> None:
    Container.decode = counting  # type: ignore[method-assign]
    dist.init_process_group("gloo")
    report: dict[str, Any] = {}
    for check in (tensor_parallel, experts, fully_sharded):
        check(root, report)
    (root / f"rank{os.environ['RANK']}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
