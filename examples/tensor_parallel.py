"""m_t + Δ over several processes: each reads and decodes only its own rows.

torchrun --nproc-per-node 2 examples/tensor_parallel.py ADAPTER TARGET

On CPU the processes talk over gloo, on CUDA devices over NCCL; the code is the same.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from transformers.distributed import DistributedConfig

import ftt_hub


def main(adapter: str, target: str) -> None:
    """Load sharded, and say what this rank holds."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
        adapter,
        base_model=target,
        distributed_config=DistributedConfig(tp_plan="auto", tp_size=dist.get_world_size()),
    )
    held = sum(getattr(p, "_local_tensor", p).nbytes for p in model.parameters())
    sys.stdout.write(f"rank {dist.get_rank()}: {held / 1e6:.1f} MB of weights\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:3])
