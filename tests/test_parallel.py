"""Two processes over gloo: each decodes what it holds, and together they hold the right model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from architectures import build

import ftt_hub
from ftt_hub.extraction import encoding

Reports = tuple[dict[str, Any], dict[str, Any]]
ROWS = "model.layers.0.mlp.gate_proj.weight"
COLUMNS = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What both ranks saw."""
    root = tmp_path_factory.mktemp("parallel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BLOCK_ELEMENTS", 256)  # many blocks in a tiny tensor
        for name, prefix in (("llama", ""), ("mixtral", "moe-")):
            source, tuned, target = build(root / name, name)
            ftt_hub.extract(source, tuned, root / f"{prefix}a")
            target.rename(root / f"{prefix}t")
            ftt_hub.apply(root / f"{prefix}a", root / f"{prefix}t", root / f"{prefix}m")
    here = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--standalone", str(here / "ranks.py"), str(root)]
    environment = {**os.environ, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((root / f"rank{i}.json").read_text()) for i in (0, 1))
    return first, second


@pytest.mark.parametrize(
    "check", ["tp_streamed", "tp_live", "tp_logits", "tp_removed", "moe_streamed", "moe_live"]
)
def test_tensor_parallel_models_hold_their_shards_of_the_merged_model(
    reports: Reports, check: str
) -> None:
    assert [report[check] for report in reports] == [True, True]
    assert reports[0]["sharded"] > 0


@pytest.mark.parametrize("path", ["tp_streamed_blocks", "tp_live_blocks", "fsdp_blocks"])
def test_a_rank_decodes_only_the_blocks_of_its_rows(reports: Reports, path: str) -> None:
    rows = [report[path][ROWS] for report in reports]
    assert rows == [4, 4]  # of 8


def test_a_tensor_split_by_columns_is_decoded_by_both(reports: Reports) -> None:
    assert [report["tp_live_blocks"][COLUMNS] for report in reports] == [8, 8]


@pytest.mark.parametrize("check", ["fsdp", "fsdp_removed"])
def test_fully_sharded_models_get_and_lose_delta_shard_by_shard(
    reports: Reports, check: str
) -> None:
    assert [report[check] for report in reports] == [True, True]
