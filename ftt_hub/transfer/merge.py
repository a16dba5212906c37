"""A merged checkpoint m_t + λΔ, streamed to disk a block at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint.headers import BEHAVIOUR_FILES, TOKENIZER_FILES, ModelHeaders
from ftt_hub.checkpoint.writer import CheckpointWriter, PlannedTensor
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import staged_folder, writing
from ftt_hub.tensors.dtypes import DType
from ftt_hub.transfer.assemble import Assembler, Range, check_scale, ranges
from ftt_hub.transfer.plan import TensorPlan, TransferPlan, carries_tokenizer
from ftt_hub.transfer.prepare import Prepared

DEFAULT_SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True)
class MergeResult:
    """What was written.

    Attributes:
        folder: The merged model.
        nbytes: Bytes of its weights.
        tensors: Number of tensors.
        changed: Tensors to which a delta was added.
    """

    folder: Path
    nbytes: int
    tensors: int
    changed: int


def merged_config(
    target: ModelHeaders, plan: TransferPlan, dtype: DType | None
) -> dict[str, object]:
    """The target's own `config.json`, with the result's vocabulary size and dtype."""
    config = dict(target.config)
    holder = config
    if "vocab_size" not in config and isinstance(config.get("text_config"), dict):
        holder = config["text_config"] = dict(config["text_config"])
    if plan.vocabulary_size is not None and "vocab_size" in holder:
        holder["vocab_size"] = plan.vocabulary_size
    if dtype is not None:
        key = "dtype" if "dtype" in config or "torch_dtype" not in config else "torch_dtype"
        config[key] = dtype.torch_name
    return config


def write_companions(out: Path, target: ModelHeaders, config: AdapterConfig, adapter: Path) -> None:
    """Tokenizer, chat template and generation config of the result.

    The adapter's files replace the target's: users expect the fine-tuned behaviour. Where the
    adapter brings a vocabulary, no tokenizer file of the target stays beside it.
    """
    own = carries_tokenizer(config)
    for name in (*TOKENIZER_FILES, *BEHAVIOUR_FILES):
        data = None
        if name in config.files:
            data = (adapter / name).read_bytes()
        elif not (own and name in TOKENIZER_FILES):
            data = target.small_file(name)
        if data is not None:
            (out / name).write_bytes(data)
    if config.generation_config and "generation_config.json" not in config.files:
        text = json.dumps(config.generation_config, indent=2, sort_keys=True)
        (out / "generation_config.json").write_text(text + "\n", encoding="utf-8")


def _copy_licences(target: Path, out: Path) -> None:
    for path in target.iterdir():
        if path.is_file() and path.stem.upper() in ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY"):
            shutil.copyfile(path, out / path.name)


def _write_weights(
    assembler: Assembler,
    plan: TransferPlan,
    writer: CheckpointWriter,
    dtype: DType | None,
    progress: Progress,
    workers: int | None,
) -> None:
    def jobs() -> Iterator[tuple[TensorPlan, Range]]:
        for tensor in plan.tensors.values():
            for part in ranges(tensor):
                yield tensor, part

    def write(job: tuple[TensorPlan, Range]) -> int:
        tensor, (start, count) = job
        bits = assembler.bits(tensor, start, count, dtype)
        writer.write_bits(tensor.name, start, bits)
        return bits.nbytes

    progress.start("applying", writer.total_size)
    for nbytes in map_unordered(write, jobs(), workers):
        progress.advance(nbytes)
    progress.finish()


def merge(
    adapter: Adapter,
    target: Prepared,
    out: Path,
    *,
    scale: float = 1.0,
    dtype: DType | None = None,
    max_shard_size: int = DEFAULT_SHARD_BYTES,
    progress: Progress | None = None,
    workers: int | None = None,
) -> MergeResult:
    """Write m_t + λΔ as a standard checkpoint folder; it appears whole or not at all.

    Peak memory is a few blocks of 4 Mi elements a worker, whatever the size of the model.

    Raises:
        OutputError: `out` is not empty, or the disk is full.
        IntegrityError: A frame is damaged.
        NonFiniteError: A tensor of the target, or a sum, is not finite.
    """
    check_scale(scale)
    plan, checkpoint = target.plan, target.checkpoint
    planned = [
        PlannedTensor(t.name, dtype if dtype is not None and t.dtype.is_float else t.dtype, t.shape)
        for t in plan.tensors.values()
    ]
    assembler = Assembler(checkpoint.read_bits, adapter.container, scale)
    with staged_folder(out) as folder:
        with CheckpointWriter(folder, planned, max_shard_size=max_shard_size) as writer:
            _write_weights(assembler, plan, writer, dtype, progress or Silent(), workers)
            writer.finish()
        with writing(folder):
            text = json.dumps(merged_config(target.headers, plan, dtype), indent=2, sort_keys=True)
            (folder / "config.json").write_text(text + "\n", encoding="utf-8")
            write_companions(folder, target.headers, adapter.config, adapter.folder)
            _copy_licences(checkpoint.folder, folder)
    changed = sum(t.entry is not None for t in plan.tensors.values())
    return MergeResult(out, writer.total_size, len(planned), changed)
