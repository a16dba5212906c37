"""A transfer adapter as a LoRA adapter that plain PEFT loads: factors of each linear layer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import DELTA, TensorEntry
from ftt_hub.checkpoint.headers import BEHAVIOUR_FILES, TOKENIZER_FILES
from ftt_hub.codecs.quantized import delta_values
from ftt_hub.convert.built_model import describe_built
from ftt_hub.convert.lora_files import lora_config, readme, write_tensors
from ftt_hub.convert.lora_report import LeftOut, LoraReport, ModuleRank
from ftt_hub.convert.low_rank import Factors, Goal, factorize, shortened
from ftt_hub.convert.modules import LINEAR, TRANSPOSED, ModuleMap
from ftt_hub.convert.plain_decoders import describe_plain
from ftt_hub.convert.whole import whole_values
from ftt_hub.errors import FttError, UnsupportedError
from ftt_hub.support.parallel import default_workers, map_unordered
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import staged_folder, write_atomic
from ftt_hub.transfer.prepare import decodable

_HEAD = re.compile(r"(^|\.)(lm_head|score|classifier|embed_out|output_projection)$")


@dataclass(frozen=True)
class LoraOptions:
    """How to make the LoRA adapter.

    Attributes:
        goal: Rank, energy or error of every module.
        target_modules: Last components or full paths of the layers to take; default all linear
            layers but the head.
        modules_to_save: Carry norms, embeddings and the head whole.
        dtype: Dtype of the factors; default that of Δ.
        device: Torch device to compute on.
        seed: Seed for the random test vectors.
    """

    goal: Goal = field(default_factory=lambda: Goal(rank=64))
    target_modules: Sequence[str] = ()
    modules_to_save: bool = False
    dtype: str | None = None
    device: str = "cpu"
    seed: int = 0


@dataclass
class _Split:
    """Changed tensors by what LoRA can do with them."""

    linear: dict[str, TensorEntry] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def _is_target(module: str, targets: Sequence[str]) -> bool:
    return any(module == t or module.endswith(f".{t}") for t in targets)


def _reason(entry: TensorEntry, model: ModuleMap, targets: Sequence[str]) -> str | None:
    """Why LoRA does not carry a tensor, ``None`` when it does."""
    parameter = model.parameters.get(entry.name)
    if entry.role != DELTA:
        return f"fine-tuning {entry.role} it"
    if parameter is None:
        return "the model has no such parameter"
    if not parameter.module:
        return "transformers fuses it with others while loading"
    if parameter.kind not in (LINEAR, TRANSPOSED) or parameter.parameter != "weight":
        return "a bias or norm" if len(entry.shape) < 2 else f"an {parameter.kind} layer"
    if targets:
        return None if _is_target(parameter.module, targets) else "not among the target modules"
    return "the head" if _HEAD.search(parameter.module) else None


def _split(adapter: Adapter, model: ModuleMap, targets: Sequence[str]) -> _Split:
    result = _Split()
    for entry in adapter.container.entries.values():
        if entry.slot is None or not entry.nbytes:
            continue
        reason = _reason(entry, model, targets)
        if reason is None:
            result.linear[entry.name] = entry
        else:
            result.others[entry.name] = reason
    if not result.linear:
        raise UnsupportedError(
            "no linear layer is left for LoRA",
            where=adapter.label,
            found="; ".join(f"{n}: {r}" for n, r in list(result.others.items())[:3]) or "no change",
            hint="Check the target modules.",
        )
    return result


def read_delta(adapter: Adapter, entry: TensorEntry) -> torch.Tensor:
    """All of a tensor's Δ as float32."""
    if len(entry.blocks) == 1:
        return torch.from_numpy(delta_values(adapter.container.decode(entry, 0))).view(entry.shape)
    flat = np.empty(entry.count, np.float32)
    for start, block in adapter.container.decode_range(entry, 0, entry.count):
        flat[start : start + block.hi.size] = delta_values(block)
    return torch.from_numpy(flat).reshape(entry.shape)


def _torch_dtype(options: LoraOptions, entry: TensorEntry, factors: Factors) -> torch.dtype:
    """What was asked for, else the shortest that holds kept factors, else that of Δ."""
    if options.dtype is None and factors.kept:
        exact = (d for d in (torch.bfloat16, torch.float16) if _are_exact(factors, d))
        return next(exact, torch.float32)
    dtype = getattr(torch, options.dtype or entry.dtype.torch_name or "", None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise FttError("no such float dtype", where="dtype", found=options.dtype)
    return dtype


def _are_exact(factors: Factors, dtype: torch.dtype) -> bool:
    """Whether the dtype holds the factors without rounding."""
    return all(torch.equal(t.to(dtype).float(), t) for t in (factors.left, factors.right))


Tensors = dict[str, torch.Tensor]


def _factors(adapter: Adapter, entry: TensorEntry, turned: bool, options: LoraOptions) -> Factors:
    """The factors of one layer: those the adapter stores, or a decomposition of its Δ."""
    stored = adapter.container.factors(entry)
    if stored is None:
        matrix = read_delta(adapter, entry).to(options.device)
        return factorize(matrix.T if turned else matrix, options.goal, seed=options.seed)
    left, right = (torch.from_numpy(part) for part in stored.values)
    return (
        shortened(right.T, left.T, options.goal) if turned else shortened(left, right, options.goal)
    )


def _factorized(
    adapter: Adapter,
    split: _Split,
    model: ModuleMap,
    options: LoraOptions,
    workers: int | None,
    progress: Progress,
) -> Iterator[tuple[str, Factors, Tensors]]:
    """Module, factors and the tensors to store, one layer per worker at a time."""

    def run(entry: TensorEntry) -> tuple[str, Factors, Tensors]:
        parameter = model.parameters[entry.name]
        factors = _factors(adapter, entry, parameter.kind == TRANSPOSED, options)
        dtype = _torch_dtype(options, entry, factors)
        key = f"base_model.model.{parameter.module}"
        stored = {
            f"{key}.lora_A.weight": factors.right.to("cpu", dtype).contiguous(),
            f"{key}.lora_B.weight": factors.left.to("cpu", dtype).contiguous(),
        }
        progress.advance(entry.count * entry.dtype.itemsize)
        return parameter.module, factors, stored

    order = sorted(split.linear.values(), key=lambda e: (-e.count, e.name))
    yield from map_unordered(run, order, workers)


def to_lora(
    adapter: Adapter,
    out: Path,
    options: LoraOptions,
    *,
    base: PathLike | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LoraReport:
    """Write a LoRA adapter that approximates Δ; it loads in PEFT without ftt-hub.

    Args:
        adapter: The transfer adapter.
        out: Folder to make.
        options: Rank, layers, dtype and device.
        base: The source base, which only `modules_to_save` and anchored adapters read; default
            the one the adapter names.
        workers: Number of threads.
        progress: Receives progress events; default: none.

    Raises:
        RefError: An anchored adapter's source base is not available.
        UnsupportedError: No linear layer is left, or what changed cannot be saved whole.
        OutputError: `out` is not empty, or the disk is full.
    """
    watch = progress or Silent()
    config = adapter.config
    entries = adapter.container.entries
    base_config = config.source_base.config
    model = describe_plain(base_config, entries) or describe_built(base_config, entries)
    split = _split(adapter, model, options.target_modules)
    watch.start("factorizing", sum(e.count * e.dtype.itemsize for e in split.linear.values()))
    ranks: dict[str, int] = {}
    modules: list[ModuleRank] = []
    tensors: Tensors = {}
    square = residual = 0.0
    count = workers or default_workers()
    threads = torch.get_num_threads()
    torch.set_num_threads(
        max(1, threads // count)
    )  # one layer per thread is faster than many threads in one layer
    try:
        with decodable(adapter, base):
            for module, factors, stored in _factorized(
                adapter, split, model, options, count, watch
            ):
                ranks[module] = factors.rank
                modules.append(ModuleRank(module, factors.rank, factors.error, factors.kept))
                square, residual = square + factors.square, residual + factors.residual
                tensors.update(stored)
    finally:
        torch.set_num_threads(threads)
    watch.finish()
    saved: dict[str, str] = {}
    with staged_folder(out) as folder:
        if options.modules_to_save:
            saved = whole_values(adapter, model, split.others, base, tensors, ranks)
        nbytes = write_tensors(folder / "adapter_model.safetensors", tensors)
        value = lora_config(config, model, ranks, sorted(set(saved.values())))
        _copy_companions(adapter, folder)
        left = _left_out(split.others, entries, saved)
        text = readme(config, math.sqrt(residual / square) if square else 0.0)
        (folder / "README.md").write_text(text, encoding="utf-8")
        write_atomic(folder / "adapter_config.json", value.to_bytes())
    total = sum(e.norm[0] ** 2 for e in entries.values() if e.norm is not None) or square
    lost = residual + sum(item.share * total for item in left if not item.saved)
    return LoraReport(
        out,
        tuple(sorted(modules, key=lambda m: m.module)),
        left,
        math.sqrt(residual / square) if square else 0.0,
        math.sqrt(lost / total) if total else 0.0,
        nbytes,
    )


def _left_out(
    others: Mapping[str, str], entries: Mapping[str, TensorEntry], saved: Mapping[str, str]
) -> tuple[LeftOut, ...]:
    total = sum(e.norm[0] ** 2 for e in entries.values() if e.norm is not None) or 1.0

    def share(name: str) -> float:
        norm = entries[name].norm
        return 0.0 if norm is None else norm[0] ** 2 / total

    return tuple(LeftOut(n, r, share(n), n in saved) for n, r in sorted(others.items()))


def _copy_companions(adapter: Adapter, folder: Path) -> None:
    """The fine-tuned model's tokenizer and chat template go along."""
    for name in (*TOKENIZER_FILES, *BEHAVIOUR_FILES):
        if name in adapter.config.files:
            (folder / name).write_bytes((adapter.folder / name).read_bytes())
