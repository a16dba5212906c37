"""Δ onto a model that FSDP2 has sharded already, and off again, shard by shard.

torchrun --nproc-per-node 2 examples/fully_sharded.py ADAPTER TARGET
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

import ftt_hub


def main(adapter: str, target: str) -> None:
    """Shard, apply, remove."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    model = AutoModelForCausalLM.from_pretrained(target)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    opened = ftt_hub.TransferAdapter.from_pretrained(adapter)
    report = opened.apply_to(model, scale=0.8)
    sys.stdout.write(f"rank {dist.get_rank()}: {report.verdict}\n")
    opened.remove_from(model)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:3])
