"""The machine the demo runs on: how many cores to use, and in which precision to compute."""

import os
from pathlib import Path

import torch

_MOST_THREADS = 8  # batches of 256 tokens keep no more cores busy
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, cut to a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def set_threads() -> int:
    """Let torch use the cores this process may use, and return their number."""
    threads = min(usable_cores(), _MOST_THREADS)
    torch.set_num_threads(threads)
    return threads


def compute_dtype() -> torch.dtype:
    """Return bfloat16 where the processor multiplies it natively, else float32.

    Weights are stored in bfloat16 either way; this is only about matrix products, which a
    processor without bfloat16 instructions computes faster in float32.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return torch.bfloat16 if native else torch.float32
