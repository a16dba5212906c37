"""Δ as a sparse patch: new values at flat indices of checkpoint tensors, for in-place updates.

The file is the one TRL's asynchronous GRPO wrote for vLLM (huggingface/trl#5937,
`trl/experimental/async_grpo/delta_engine.py`): for every changed tensor `NAME.idx` and `NAME.val`,
metadata ``format: sparse_weight_patch``, ``version: 1``. Names, flat indices and replacement values
are in checkpoint coordinates, as vLLM's `CheckpointWeightPatch` takes them (vllm#50723, #53751;
`vllm/model_executor/model_loader/checkpoint_weight_patch.py`).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.errors import FttError, UnsupportedError
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import require_free_file, staged_file, writing
from ftt_hub.tensors.header import build_header
from ftt_hub.transfer.assemble import Assembler, check_scale, ranges
from ftt_hub.transfer.plan import TensorPlan
from ftt_hub.transfer.prepare import Prepared, prepared

RAW, GAPS = "raw", "gap_delta"
ENCODINGS = (RAW, GAPS)
MAX_ELEMENTS = 1 << 31

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class PatchReport:
    """What a patch holds.

    Attributes:
        path: The file.
        tensors: Changed tensors.
        changed: Changed elements.
        elements: Elements of all tensors.
        nbytes: Size of the file.
    """

    path: Path
    tensors: int
    changed: int
    elements: int
    nbytes: int


def encode_indices(indices: Indices, encoding: str) -> tuple[str, bytes]:
    """Safetensors dtype and bytes of ascending flat indices.

    ``raw``: int32 positions. ``gap_delta``: the distance to the previous one, less one, as uint16,
    or uint32 where one does not fit.
    """
    if encoding == RAW:
        return "I32", indices.astype("<i4").tobytes()
    gaps = np.diff(indices, prepend=-1) - 1
    if gaps.size == 0 or int(gaps.max()) <= 0xFFFF:
        return "U16", gaps.astype("<u2").tobytes()
    return "U32", gaps.astype("<u4").tobytes()


def _check(plan: TensorPlan) -> None:
    what = None
    if plan.target is None:
        what = "fine-tuning added it"
    elif plan.rows is not None or plan.target.shape != plan.shape:
        what = "its rows move"
    elif plan.target.count >= MAX_ELEMENTS:
        what = "it has too many elements for 32-bit indices"
    if what is not None:
        raise UnsupportedError(
            f"a patch in place cannot express this tensor: {what}",
            where=plan.name,
            hint="Use ftt-hub apply for a whole checkpoint.",
        )


@dataclass
class _Spool:
    """Indices and values of the tensors so far, on the disk."""

    indices: BinaryIO
    values: BinaryIO
    encoding: str
    header: dict[str, tuple[str, tuple[int, ...], int]]
    value_header: dict[str, tuple[str, tuple[int, ...], int]]
    shapes: dict[str, list[int]]
    changed: int = 0
    elements: int = 0

    def add(self, plan: TensorPlan, assembler: Assembler) -> None:
        """Compare one tensor with what it becomes."""
        if plan.target is None:
            return
        changed: list[Indices] = []
        number = 0
        for start, count in ranges(plan):
            before = assembler.read_target(plan.target.name, start, count)
            after = assembler.bits(plan, start, count)
            positions = np.flatnonzero(before != after)
            changed.append(positions + start)
            self.values.write(after[positions].tobytes())
            number += positions.size
        if not number:
            return
        kind, data = encode_indices(np.concatenate(changed), self.encoding)
        self.indices.write(data)
        size = number * plan.dtype.itemsize
        self.header[f"{plan.name}.idx"] = (kind, (number,), len(data))
        self.value_header[f"{plan.name}.val"] = (plan.dtype.name, (number,), size)
        self.shapes[plan.name] = list(plan.shape)
        self.changed += number

    def metadata(self) -> dict[str, str]:
        """The header's text entries: TRL's, and the shapes that vLLM asks for."""
        return {
            "format": "sparse_weight_patch",
            "version": "1",
            "sparse": "True",
            "model_version": "0",
            "num_changed_params": str(len(self.shapes)),
            "total_changed_elements": str(self.changed),
            "total_elements": str(self.elements),
            "sparsity": repr(1.0 - self.changed / max(1, self.elements)),
            "encoding": self.encoding,
            "shapes": json.dumps(self.shapes, separators=(",", ":"), sort_keys=True),
        }


def to_sparse_patch(
    adapter: Adapter,
    base: PathLike,
    out: Path,
    *,
    encoding: str = RAW,
    scale: float = 1.0,
    force: bool = False,
    progress: Progress | None = None,
) -> PatchReport:
    """Write the patch that turns `base` into base + scale·Δ.

    Streams: one block of one tensor in memory, and the indices of one tensor.

    Args:
        adapter: The transfer adapter.
        base: What the server runs: the source base, or another target.
        out: The safetensors file to make.
        encoding: ``raw`` (what vLLM's loader takes) or ``gap_delta`` (smaller).
        scale: Task-arithmetic coefficient λ.
        force: Continue although the target is rejected.
        progress: Receives progress events; default: none.

    Raises:
        IncompatibleError: The adapter does not fit the base.
        UnsupportedError: Δ adds or moves tensors, which no patch in place can.
        OutputError: The file exists, or the disk is full.
    """
    check_scale(scale)
    if encoding not in ENCODINGS:
        raise FttError("unknown encoding", expected=" or ".join(ENCODINGS), found=encoding[:40])
    require_free_file(out)
    with prepared(adapter, base, force=force) as target:
        for plan in target.plan.tensors.values():
            if plan.entry is not None or plan.target is None or plan.rows is not None:
                _check(plan)
        with staged_file(out) as partial:
            report = _write(partial, adapter, target, encoding, scale, progress or Silent())
    return PatchReport(out, *report)


def _write(
    path: Path,
    adapter: Adapter,
    target: Prepared,
    encoding: str,
    scale: float,
    progress: Progress,
) -> tuple[int, int, int, int]:
    assembler = Assembler(target.checkpoint.read_bits, adapter.container, scale)
    plans = [p for p in target.plan.tensors.values() if p.entry is not None]
    spools = [path.with_name(f"{path.name}.{part}") for part in ("idx", "val")]
    progress.start("comparing", sum(p.nbytes for p in plans))
    try:
        with writing(path), spools[0].open("w+b") as idx, spools[1].open("w+b") as val:
            spool = _Spool(idx, val, encoding, {}, {}, {})
            spool.elements = sum(info.count for info in target.headers.tensors.values())
            for plan in plans:
                spool.add(plan, assembler)
                progress.advance(plan.nbytes)
            with path.open("wb") as file:
                order = {**spool.header, **spool.value_header}
                file.write(build_header(order, spool.metadata()))
                for part in (idx, val):
                    part.seek(0)
                    shutil.copyfileobj(part, file, 1 << 20)
            size = path.stat().st_size
    finally:
        for file_path in spools:
            file_path.unlink(missing_ok=True)
    progress.finish()
    return len(spool.shapes), spool.changed, spool.elements, size
