"""Model runs behind a verdict: one model in memory at a time, Δ moved in place."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.arrangement import Arrangement
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.checkpoint.view import Readable, RespelledReader
from ftt_hub.errors import NonFiniteError, UnsupportedError
from ftt_hub.loss import HeldOutText, Loss, measure
from ftt_hub.loss.measurement import LossError, NotANumberError
from ftt_hub.support.findings import CompatibilityReport
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import narrow_double, widen
from ftt_hub.transfer.assemble import ReadBits
from ftt_hub.transfer.live import verbs
from ftt_hub.transfer.load import load_model
from ftt_hub.transfer.plan import TransferPlan
from ftt_hub.transfer.prepare import Prepared
from ftt_hub.verdict.curve import SCALES, Curve

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PATH = (0.25, 0.5, 0.75)
"""Places between m_s + Δ and m_t + Δ whose loss is measured."""


@dataclass(frozen=True)
class Base:
    """A model on disk: a target, or the source base.

    Attributes:
        checkpoint: Its weights.
        headers: Its headers.
        plan: The adapter's plan for it.
    """

    checkpoint: Checkpoint
    headers: ModelHeaders
    plan: TransferPlan

    @property
    def named(self) -> tuple[Mapping[str, TensorInfo], ReadBits]:
        """Its tensors, and how to read them, under the adapter's names."""
        return self.plan.named(self.checkpoint.tensors, self.checkpoint.read_bits)

    def named_as(self, other: Base) -> Readable:
        """Its weights under the names and in the layout of another model."""
        tensors, read_bits = self.named
        respelling = other.plan.respelling
        if respelling is None:
            same = {name: Arrangement.whole(name, info.shape) for name, info in tensors.items()}
            return RespelledReader(same, tensors, read_bits)
        made = {
            name: arrangement
            for name, arrangement in respelling.own.items()
            if tensors.keys() >= set(arrangement.names) and arrangement.pieces
        }
        return RespelledReader(made, tensors, read_bits)


@dataclass(frozen=True)
class Runner:
    """Measures losses of one adapter's models on one text.

    Attributes:
        adapter: The opened adapter.
        text: Windows under the tokenizer that all models share.
        device: Where models run; default a CUDA device where there is one.
        force: Add Δ in spite of a rejection.
        advance: Called with the number of windows done.
    """

    adapter: Adapter
    text: HeldOutText
    device: str | None = None
    force: bool = False
    advance: Callable[[int], None] | None = None

    def along_scale(self, base: Base, scales: tuple[float, ...] = SCALES) -> Curve:
        """Loss of base + λΔ at every λ, on one model in memory, which is left as it was.

        Raises:
            LossError: The loss of the base itself is not a number, or memory ran out.
            IncompatibleError: The adapter does not fit.
        """
        losses: dict[float, Loss] = {}
        broken: list[float] = []
        with self._plain(base) as model:
            losses[0.0] = self._loss(model, base.headers.label)
            for scale in sorted(set(scales) - {0.0}, key=abs):
                loss = self._at_scale(model, scale, base.headers.label)
                if loss is None:
                    broken.append(scale)
                else:
                    losses[scale] = loss
            if verbs.is_on(self.adapter, model):
                verbs.remove_from(self.adapter, model)
            del model  # the next one is loaded when this one is gone
        return Curve(losses, tuple(sorted(broken)))

    def _at_scale(self, model: PreTrainedModel, scale: float, label: str) -> Loss | None:
        """Loss with λ at `scale`; ``None`` when sum or loss is not a number."""
        try:
            with _memory(label):
                if verbs.is_on(self.adapter, model):
                    verbs.set_scale(self.adapter, model, scale)
                else:
                    verbs.apply_to(self.adapter, model, scale=scale, force=self.force)
            return self._loss(model, f"{label} + {scale:g}Δ")
        except (NotANumberError, NonFiniteError):
            return None

    def between(self, source: Base, target: Base, ends: tuple[Loss, Loss]) -> Curve:
        """Loss along (1 − α)(m_s + Δ) + α(m_t + Δ), whose ends were measured before.

        Each model is made while it is loaded: both bases are read from disk a tensor at a time.

        Raises:
            LossError: Memory ran out.
        """
        losses, broken = {0.0: ends[0], 1.0: ends[1]}, []
        for place in PATH:
            read = mixture(source.named_as(target), target.checkpoint, place)
            try:
                with self._mixed(target, read) as model:
                    losses[place] = self._loss(model, f"{target.headers.label} at α = {place:g}")
                    del model  # the next one is loaded when this one is gone
            except (NotANumberError, NonFiniteError):
                broken.append(place)
        return Curve(losses, tuple(broken))

    def _loss(self, model: PreTrainedModel, where: str) -> Loss:
        return measure(model, self.text, where=where, advance=self.advance)

    @contextmanager
    def _plain(self, base: Base) -> Iterator[PreTrainedModel]:
        from transformers import AutoConfig, AutoModelForCausalLM

        folder = str(base.checkpoint.folder)
        config = AutoConfig.from_pretrained(folder)
        task = self.adapter.config.task_type
        if type(config) not in AutoModelForCausalLM._model_mapping or (  # noqa: SLF001
            task not in (None, "CAUSAL_LM")
        ):
            raise UnsupportedError(
                "a loss is measured of causal language models only", where=base.headers.label,
                found=task or config.model_type, hint="Use --depth weights.",
            )  # fmt: skip
        with _memory(base.headers.label):
            yield from self._placed([AutoModelForCausalLM.from_pretrained(folder, dtype="auto")])

    @contextmanager
    def _mixed(self, base: Base, read: ReadBits) -> Iterator[PreTrainedModel]:
        report = CompatibilityReport(self.adapter.label, base.headers.label, "headers", ())
        prepared = Prepared(base.checkpoint, base.headers, base.plan, report)
        with _memory(base.headers.label):
            yield from self._placed(
                [load_model("AutoModelForCausalLM", self.adapter, prepared, scale=1.0, read=read)]
            )

    def _placed(self, held: list[PreTrainedModel]) -> Iterator[PreTrainedModel]:
        """The model where it is to run; nothing holds it afterwards."""
        import torch

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            yield held.pop().to(device)  # type: ignore[arg-type]
        finally:
            gc.collect()


def mixture(first: Readable, second: Readable, place: float) -> ReadBits:
    """Reads (1 − place)·first + place·second, rounded once to the second's dtype."""

    def read(name: str, start: int, count: int) -> Bits:
        bits, info = second.read_bits(name, start, count), second.tensors[name]
        other = first.tensors.get(name)
        if other is None or other.shape != info.shape or not info.dtype.is_float:
            return bits
        mine = widen(first.read_bits(name, start, count), other.dtype).astype("float64")
        theirs = widen(bits, info.dtype).astype("float64")
        return narrow_double((1 - place) * mine + place * theirs, info.dtype)

    return read


@contextmanager
def _memory(where: str) -> Iterator[None]:
    """Running out of memory as an error that says what to do."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise LossError(
            "out of memory", where=where,
            hint="Use --depth sketch or weights, which need little, or a larger machine.",
        ) from error  # fmt: skip
