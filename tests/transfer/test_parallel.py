"""Two processes over gloo: each decodes what it holds, and together they hold the right model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build
from models import HIDDEN, WORDS, config, drifted, random_state, save_model

import ftt_hub
from ftt_hub.extraction import encoding

Reports = tuple[dict[str, Any], dict[str, Any]]
VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
ROWS = "model.layers.0.mlp.gate_proj.weight"
COLUMNS = "model.layers.0.mlp.down_proj.weight"


CASES = ("added", "added-tied", "moved")


def vocabulary_case(folder: Path, case: str) -> None:
    """An adapter that added three tokens, a target, and both merged on disk.

    The target of "moved" has its tokens in another order, and a token of its own.
    """
    tied = case == "added-tied"
    base = random_state(0, tied=tied)
    tuned = drifted(base, 1, 0.01)
    words = [*WORDS, "<chat>", "wnew", "wend"]
    grown = {"vocab_size": len(words), "tie_word_embeddings": tied}
    for name in VOCABULARY if not tied else VOCABULARY[:1]:
        extra = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(3)) * 0.05
        tuned[name] = torch.cat([tuned[name], extra])
    save_model(folder / "s", base, config(tie_word_embeddings=tied))
    save_model(folder / "f", tuned, config(**grown), words=words)
    ends = {"eos_token_id": [2, len(words) - 1], "bos_token_id": 1}
    (folder / "f" / "generation_config.json").write_text(json.dumps(ends))
    target, theirs = drifted(base, 2, 0.05), list(WORDS)
    if case == "moved":
        order = [0, 1, 2, *reversed(range(3, len(WORDS)))]
        theirs = [*(WORDS[i] for i in order), "own"]
        for name in VOCABULARY:
            target[name] = torch.cat([target[name][order], torch.ones(1, HIDDEN)])
    save_model(
        folder / "t", target, config(tie_word_embeddings=tied, vocab_size=len(theirs)), words=theirs
    )
    settings = config(tie_word_embeddings=tied)
    save_model(folder / "x", random_state(99, tied=tied), settings)
    ftt_hub.extract(folder / "s", folder / "f", folder / "a")
    ftt_hub.apply(folder / "a", folder / "t", folder / "m")


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
    for case in CASES:
        vocabulary_case(root / case, case)
    here = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--standalone", str(here / "ranks.py"), str(root)]
    paths = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((root / f"rank{i}.json").read_text()) for i in (0, 1))
    return first, second


@pytest.mark.parametrize(
    "check",
    [
        "tp_streamed",
        "tp_live",
        "tp_logits",
        "tp_removed",
        "moe_streamed",
        "moe_live",
        "ep_live",
        "ep_removed",
        "ep_streamed",
        "moe_fsdp",
    ],
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


@pytest.mark.parametrize("path", ["ep_live_blocks", "ep_streamed_blocks", "moe_fsdp_blocks"])
def test_a_rank_decodes_only_the_experts_it_holds(reports: Reports, path: str) -> None:
    held = [
        {int(name.split(".")[5]) for name in report[path] if ".experts." in name}
        for report in reports
    ]
    assert held == [{0, 1}, {2, 3}]


def test_experts_split_inside_are_decoded_by_their_rows(reports: Reports) -> None:
    expert = "model.layers.1.block_sparse_moe.experts.3."
    for report in reports:
        assert report["moe_live_blocks"][f"{expert}w1.weight"] == 4  # of 8
        assert report["moe_live_blocks"][f"{expert}w2.weight"] == 8  # split by columns


def test_a_tensor_split_by_columns_is_decoded_by_both(reports: Reports) -> None:
    assert [report["tp_live_blocks"][COLUMNS] for report in reports] == [8, 8]


@pytest.mark.parametrize("check", ["fsdp", "fsdp_removed"])
def test_fully_sharded_models_get_and_lose_delta_shard_by_shard(
    reports: Reports, check: str
) -> None:
    assert [report[check] for report in reports] == [True, True]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "check", ["tp", "tp-generated", "tp-rescaled", "tp-streamed", "tp-removed"]
)
def test_tensor_parallel_models_in_memory_get_and_lose_rows_of_another_vocabulary(
    reports: Reports, case: str, check: str
) -> None:
    assert [report[f"{case}-{check}"] for report in reports] == [True, True]
    assert [report[f"{case}-head"] for report in reports] == [True, True]  # a DTensor


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", ["fsdp", "fsdp-logits", "fsdp-removed", "fsdp-first"])
def test_fully_sharded_models_in_memory_get_and_lose_rows_of_another_vocabulary(
    reports: Reports, case: str, check: str
) -> None:
    assert [report[f"{case}-{check}"] for report in reports] == [True, True]


def test_the_report_of_a_sharded_model_lists_rows_added_moved_and_kept(reports: Reports) -> None:
    found = [report["moved-finding"] for report in reports]
    assert found[0] == found[1]
    assert "3 rows added" in found[0]
    assert "rows moved" in found[0]
    assert "1 tokens that only the target has are kept" in found[0]


@pytest.mark.parametrize("case", ["", "added/"])
def test_a_frame_that_one_process_finds_damaged_leaves_both_as_they_were(
    reports: Reports, case: str
) -> None:
    assert "another process" in reports[0][f"{case}failure"]
    assert "does not match its hash" in reports[1][f"{case}failure"]
    assert [report[f"{case}failed"] for report in reports] == [True, True]
    assert [report[f"{case}again"] for report in reports] == [True, True]


def test_a_stranger_is_told_by_the_rows_that_each_process_holds(reports: Reports) -> None:
    for report in reports:
        assert "unrelated to the source base" in report["stranger"]
    assert [report["stranger-kept"] for report in reports] == [True, True]


def test_weights_that_one_process_changed_are_taken_back_by_none(reports: Reports) -> None:
    assert "another process" in reports[0]["changed"]
    assert "the weights were changed" in reports[1]["changed"]
    assert [report["changed-kept"] for report in reports] == [True, True]
