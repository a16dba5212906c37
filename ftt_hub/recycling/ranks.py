"""The processes of a run under ``accelerate launch``: one leads, all train."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

_PATIENCE = timedelta(hours=24)
"""How long the others wait while the leader extracts or evaluates a large model."""


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: Its number; process 0 leads.
        count: Number of processes.
    """

    rank: int
    count: int

    @property
    def leads(self) -> bool:
        """Whether this process does what is done once."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()


def leads() -> bool:
    """Whether this process prints results: the only one, or the first of a launch."""
    return int(os.environ.get("RANK", "0")) == 0


def join(*, cpu: bool) -> Ranks:
    """Meet the other processes of the launch, if there are any."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count <= 1:
        return Ranks(0, 1)
    from accelerate import PartialState

    state = PartialState(cpu=cpu, timeout=_PATIENCE)
    return Ranks(state.process_index, state.num_processes)
