"""The models that are compared, one at a time in memory: m_t, m_t + Δ for each adapter, others."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.resolve import model_folder
from ftt_hub.errors import CheckpointError, FttError
from ftt_hub.evaluation.contestants import MODEL, TARGET, TRANSFER, Contestant, Entrant
from ftt_hub.evaluation.harness import quiet
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.paths import PathLike
from ftt_hub.transfer.assemble import check_scale
from ftt_hub.transfer.tokenizer import load_tokenizer
from ftt_hub.verdict.verify import verify_target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")


@dataclass(frozen=True)
class Lineup:
    """Who is compared.

    Attributes:
        target: m_t, a folder or Hub reference.
        adapters: Folders or references; each is added to m_t alone.
        models: Other models, folders or Hub references.
        scale: Task-arithmetic coefficient λ.
        registry: ``"hf"`` or a folder.
        device: Torch device to run on; default CUDA where there is a GPU.
        dtype: ``auto`` or torch's name: what models run in.
        bars: Whether transformers may draw progress bars on stderr.
    """

    target: PathLike
    adapters: Sequence[PathLike] = ()
    models: Sequence[PathLike] = ()
    scale: float = 1.0
    registry: PathLike | None = None
    device: str | None = None
    dtype: str = "auto"
    bars: bool = False

    def each(self, visit: Callable[[Entrant], T]) -> Iterator[T]:
        """Call `visit` with each model, m_t first, and yield its results; it must keep no model.

        m_t is loaded once: Δ is added to it and taken off again bit for bit. It is freed before
        the others are loaded.

        Raises:
            IncompatibleError: An adapter does not fit; before anything is loaded.
            CheckpointError: A model cannot be loaded.
        """
        check_scale(self.scale)
        device = _device(self.device)
        with ExitStack() as opened:
            adapters = [
                opened.enter_context(open_adapter(text, registry=self.registry))
                for text in self.adapters
            ]
            for adapter in adapters:
                verify_target(adapter, self.target).raise_if_incompatible()
            others = [model_folder(text) for text in self.models]
            yield from self._on_target(adapters, device, visit)
        for text, (folder, label, commit) in zip(self.models, others, strict=True):
            who = Contestant(_short(label), MODEL, str(text), commit)
            yield visit(Entrant(who, *self._load(folder, device)))
            _free()

    def _on_target(
        self, adapters: Sequence[Adapter], device: str, visit: Callable[[Entrant], T]
    ) -> Iterator[T]:
        from ftt_hub.transfer.live import verbs

        folder, label, commit = model_folder(self.target)
        model, tokenizer = self._load(folder, device)
        words = [load_tokenizer(adapter, self.target) for adapter in adapters]
        chat = next((str(w.chat_template) for w in words if w.chat_template), None)
        who = Contestant(_short(label), TARGET, str(self.target), commit)
        yield visit(Entrant(who, model, tokenizer, chat))
        for adapter, its in zip(adapters, words, strict=True):
            with verbs.applied(adapter, model, scale=self.scale):
                visited = visit(Entrant(self._transfer(adapter), model, its, chat))
            yield visited
        del model
        _free()

    def _load(self, folder: Path, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        with quiet(self.bars):
            return load(folder, device, self.dtype)

    def _transfer(self, adapter: Adapter) -> Contestant:
        by = "" if self.scale == 1 else f"{self.scale:g}·"
        return Contestant(
            f"+ {by}Δ {_short(adapter.label)}",
            TRANSFER,
            adapter.label,
            adapter.revision,
            adapter.config.content_digest,
            self.scale,
        )


def _short(label: str) -> str:
    """A folder by its name, a reference as it is."""
    return Path(label).name if Path(label).is_dir() else label


def _device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FttError("no such device here", where=device, found=_line(error)) from error
    return device


def load(folder: Path, device: str, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer.

    Raises:
        CheckpointError: It cannot be loaded, or does not fit into memory.
        FttError: torch has no such dtype.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = dtype if dtype == "auto" else getattr(torch, dtype, None)
    if kind != "auto" and not isinstance(kind, torch.dtype):
        raise FttError("torch has no such dtype", where=dtype, expected="auto, float32, bfloat16")
    try:
        words = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=kind)
        model.to(torch.device(device))  # type: ignore[arg-type]
        return model.eval(), words  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, torch.OutOfMemoryError) as error:
        raise CheckpointError(
            "cannot be loaded as a causal language model", where=folder, found=_line(error)
        ) from error


def _free() -> None:
    """Give the memory of a model back before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
