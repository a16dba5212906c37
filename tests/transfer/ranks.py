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
from ftt_hub.artifact.reader import Container
from ftt_hub.errors import FttError, IntegrityError

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
    decoded.clear()
    adapter.apply_to(live)
    report["moe_live"] = same(local(live), local(plain))
    report["moe_live_blocks"] = blocks()
    split = {"distributed_config": DistributedConfig(tp_size=2, tp_plan="auto", ep_size=2)}
    plain = AutoModelForCausalLM.from_pretrained(root / "moe-m", **split)
    live = AutoModelForCausalLM.from_pretrained(root / "moe-t", **split)
    before = local(live)
    decoded.clear()
    adapter.apply_to(live)
    report["ep_live"] = same(local(live), local(plain))
    report["ep_live_blocks"] = blocks()
    adapter.remove_from(live)
    report["ep_removed"] = same(local(live), before)
    decoded.clear()
    streamed = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
        root / "moe-a", base_model=root / "moe-t", **split
    )
    report["ep_streamed"] = same(local(streamed), local(plain))
    report["ep_streamed_blocks"] = blocks()
    model = AutoModelForCausalLM.from_pretrained(root / "moe-t")
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    decoded.clear()
    adapter.apply_to(model)
    report["moe_fsdp_blocks"] = blocks()
    whole_plain = AutoModelForCausalLM.from_pretrained(root / "moe-m").state_dict()
    report["moe_fsdp"] = all(
        torch.equal(tensor.full_tensor(), whole_plain[name])
        for name, tensor in model.state_dict().items()
    )


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


def vocabulary(root: Path, report: dict[str, Any]) -> None:
    """Rows added and moved on sharded models in memory, and taken off again."""
    plan = {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=2)}
    for case in ("added", "added-tied", "moved"):
        folder = root / case
        adapter = ftt_hub.TransferAdapter.from_pretrained(folder / "a")
        merged = AutoModelForCausalLM.from_pretrained(folder / "m", **plan)
        live = AutoModelForCausalLM.from_pretrained(folder / "t", **plan)
        report[f"{case}-tp"] = _rows(adapter, live, merged, report, case)
        report[f"{case}-tp-generated"] = generated(live, merged)
        before = local(live)
        adapter.set_scale(live, 0.5)
        adapter.set_scale(live, 1.0)
        report[f"{case}-tp-rescaled"] = same(local(live), before)
        streamed = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            folder / "a", base_model=folder / "t", **plan
        )
        report[f"{case}-tp-streamed"] = same(local(streamed), before)
        adapter.remove_from(live)
        plain = AutoModelForCausalLM.from_pretrained(folder / "t", **plan)
        report[f"{case}-tp-removed"] = same(local(live), local(plain)) and generated(live, plain)


def _rows(adapter: Any, live: Any, merged: Any, report: dict[str, Any], case: str) -> bool:
    found = adapter.apply_to(live)
    report[f"{case}-finding"] = next(f.reason for f in found.findings if f.check == "vocabulary")
    report[f"{case}-head"] = isinstance(live.lm_head.weight, DTensor)
    same_size = live.config.vocab_size == merged.config.vocab_size
    return same(local(live), local(merged)) and same_size


def generated(model: Any, other: Any) -> bool:
    prompt = torch.tensor([[1, 5, 95, 9]])
    mine, theirs = (m.generate(prompt, max_new_tokens=6, do_sample=False) for m in (model, other))
    return torch.equal(mine, theirs)


def fully_sharded_vocabulary(root: Path, report: dict[str, Any]) -> None:
    prompt = torch.tensor([[1, 5, 95, 9]])
    for case in ("added", "added-tied", "moved"):
        folder = root / case
        adapter = ftt_hub.TransferAdapter.from_pretrained(folder / "a")
        model = AutoModelForCausalLM.from_pretrained(folder / "t")
        fully_shard(model.model.layers[0])
        fully_shard(model)
        before = local(model)
        with torch.no_grad():
            first = model(prompt).logits  # leaves the root's parameters gathered
        adapter.apply_to(model)
        report[f"{case}-fsdp"] = whole(model, folder / "m")
        plain = AutoModelForCausalLM.from_pretrained(folder / "m")
        with torch.no_grad():
            got = model(prompt).logits
            report[f"{case}-fsdp-logits"] = torch.equal(got, plain(prompt).logits)
        adapter.remove_from(model)
        report[f"{case}-fsdp-removed"] = same(local(model), before)
        with torch.no_grad():
            report[f"{case}-fsdp-first"] = torch.equal(model(prompt).logits, first)


def stranger(root: Path, report: dict[str, Any]) -> None:
    """A model of the same shape and no kin, of which no process has a whole matrix."""
    model = AutoModelForCausalLM.from_pretrained(root / "added" / "x")
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    before = local(model)
    adapter = ftt_hub.TransferAdapter.from_pretrained(root / "added" / "a")
    try:
        adapter.apply_to(model)
    except FttError as error:
        report["stranger"] = str(error)
    report["stranger-kept"] = same(local(model), before)


def one_rank_fails(root: Path, report: dict[str, Any]) -> None:
    """A frame that only one process finds damaged stops both."""
    plan = {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=2)}
    for case in ("", "added/"):
        live = AutoModelForCausalLM.from_pretrained(root / f"{case}t", **plan)
        before = local(live)
        adapter = ftt_hub.TransferAdapter.from_pretrained(root / f"{case}a")
        Container.decode = damaged if os.environ["RANK"] == "1" else counting  # type: ignore[method-assign]
        try:
            adapter.apply_to(live)
        except FttError as error:
            report[f"{case}failure"] = str(error)
        Container.decode = counting  # type: ignore[method-assign]
        report[f"{case}failed"] = same(local(live), before)
        adapter.apply_to(live)
        report[f"{case}again"] = same(
            local(live), local(AutoModelForCausalLM.from_pretrained(root / f"{case}m", **plan))
        )


def one_rank_changed(root: Path, report: dict[str, Any]) -> None:
    """Weights that only one process changed are taken back by none."""
    plan = {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=2)}
    live = AutoModelForCausalLM.from_pretrained(root / "t", **plan)
    adapter = ftt_hub.TransferAdapter.from_pretrained(root / "a")
    adapter.apply_to(live)
    if os.environ["RANK"] == "1":
        with torch.no_grad():
            live.lm_head.weight.to_local().add_(1)
    before = local(live)
    try:
        adapter.remove_from(live)
    except FttError as error:
        report["changed"] = str(error)
    report["changed-kept"] = same(local(live), before)


def damaged(self: Container, entry: Any, number: int) -> Any:
    if entry.name in ("model.norm.weight", "lm_head.weight"):
        raise IntegrityError("block does not match its hash", where=entry.name)
    return counting(self, entry, number)


def main(root: Path) -> None:
    Container.decode = counting  # type: ignore[method-assign]
    dist.init_process_group("gloo")
    report: dict[str, Any] = {}
    for check in CHECKS:
        check(root, report)
    (root / f"rank{os.environ['RANK']}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


CHECKS = (
    tensor_parallel,
    experts,
    fully_sharded,
    vocabulary,
    fully_sharded_vocabulary,
    stranger,
    one_rank_fails,
    one_rank_changed,
)

if __name__ == "__main__":
    main(Path(sys.argv[1]))
