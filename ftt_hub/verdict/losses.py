"""Depth `loss`: losses of m_t + λΔ on a text, with one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.errors import NonFiniteError, UnsupportedError
from ftt_hub.loss import HeldOutText, Loss, measure, read_text
from ftt_hub.loss.measurement import NotANumberError
from ftt_hub.support.findings import CompatibilityReport, Finding, Status, warned
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.rounding import narrow_double, widen
from ftt_hub.transfer.assemble import ReadBits
from ftt_hub.transfer.live import verbs
from ftt_hub.transfer.load import load_model
from ftt_hub.transfer.prepare import Prepared, anchored
from ftt_hub.transfer.running import running
from ftt_hub.transfer.tokenizer import load_tokenizer
from ftt_hub.verdict.bases import Base, opened_base, source_base
from ftt_hub.verdict.evidence import Curve, LossEvidence
from ftt_hub.verdict.languages import check_language
from ftt_hub.verdict.options import SCALES, TextOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PATH = (0.25, 0.5, 0.75)
"""Positions between m_s + Δ and m_t + Δ whose loss is measured."""
WINDOWS, MIN_WINDOW = 16, 32
"""A short text is cut into shorter windows until there are so many, or they are so short."""


def _read(options: TextOptions, tokenizer: PreTrainedTokenizerBase) -> HeldOutText:
    """The text; a short one in shorter windows, since the bootstrap draws windows."""
    text = read_text(options.path, tokenizer, tokens=options.tokens, window=options.window)
    if len(text.windows) >= WINDOWS:
        return text
    window = max(MIN_WINDOW, min(options.window, text.tokens // WINDOWS))
    return read_text(options.path, tokenizer, tokens=options.tokens, window=window)


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
        with self._running(lambda: self._plain(base), base) as model:
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
        for alpha in PATH:
            mixed = partial(self._mixed, source, target, alpha)
            try:
                with self._running(mixed, target) as model:
                    losses[alpha] = self._loss(model, f"{target.headers.label} at α = {alpha:g}")
                    del model  # the next one is loaded when this one is gone
            except (NotANumberError, NonFiniteError):
                broken.append(alpha)
        return Curve(losses, tuple(broken))

    def _loss(self, model: PreTrainedModel, where: str) -> Loss:
        return measure(model, self.text, where=where, advance=self.advance)

    def _running(
        self, load: Callable[[], PreTrainedModel], base: Base
    ) -> AbstractContextManager[PreTrainedModel]:
        hint = "Use --depth sketch or weights, which need little, or a larger machine."
        return running(load, where=base.headers.label, hint=hint, device=self.device)

    def _plain(self, base: Base) -> PreTrainedModel:
        from transformers import AutoConfig, AutoModelForCausalLM

        folder = str(base.checkpoint.folder)
        config = AutoConfig.from_pretrained(folder)
        task = self.adapter.config.task_type
        known = AutoModelForCausalLM._model_mapping  # noqa: SLF001 - no public way to ask
        if type(config) not in known or task not in (None, "CAUSAL_LM"):
            raise UnsupportedError(
                "a loss is measured of causal language models only",
                where=base.headers.label,
                found=task or config.model_type,
                hint="Use --depth weights.",
            )
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")

    def _mixed(self, source: Base, target: Base, alpha: float) -> PreTrainedModel:
        report = CompatibilityReport(self.adapter.label, target.headers.label, "headers", ())
        prepared = Prepared(target.checkpoint, target.headers, target.plan, report)
        read = mixture(source.checkpoint, target.checkpoint, alpha)
        return load_model("AutoModelForCausalLM", self.adapter, prepared, scale=1.0, read=read)


def mixture(first: Checkpoint, second: Checkpoint, alpha: float) -> ReadBits:
    """Reads (1 − alpha)·first + alpha·second, rounded once to the second's dtype."""

    def read(name: str, start: int, count: int) -> Bits:
        bits, info = second.read_bits(name, start, count), second.tensors[name]
        other = first.tensors.get(name)
        if other is None or other.shape != info.shape or not info.dtype.is_float:
            return bits
        mine = widen(first.read_bits(name, start, count), other.dtype).astype("float64")
        theirs = widen(bits, info.dtype).astype("float64")
        return narrow_double((1 - alpha) * mine + alpha * theirs, info.dtype)

    return read


def _has_other_tokens(base: Base) -> bool:
    findings = base.plan.findings
    return any(f.check == "vocabulary" and f.status is Status.REJECTED for f in findings)


def measure_losses(
    adapter: Adapter,
    target: PathLike,
    options: TextOptions,
    *,
    source: PathLike | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[LossEvidence | None, list[Finding]]:
    """Losses along λ, of the source base, and between the two; one model in memory at a time.

    Raises:
        TextError: The text cannot be used.
        LossError: The target's own loss is not a number, or memory ran out.
    """
    with opened_base(adapter, target) as base:
        if base.plan.rows is not None or _has_other_tokens(base):
            reason = "the target's tokens are not those of the adapter: losses cannot be compared"
            return None, [warned("tokenizer", f"{reason}; no model was run")]
        text = _read(options, load_tokenizer(adapter, target))
        findings = [check_language(text.sample, adapter.config.languages)]
        progress = progress or Silent()
        scales = tuple(sorted({0.0, 1.0, *options.scales}))
        progress.start(
            "measuring losses", len(text.windows) * (len(scales) + 2 + len(PATH)), "windows"
        )
        runner = Runner(adapter, text, options.device, force, progress.advance)
        with anchored(adapter, base.checkpoint, source):
            curve = runner.along_scale(base, scales)
            with source_base(adapter, source) as (home, finding):
                evidence = LossEvidence(text, curve)
                if home is not None and home.plan.rows is None:
                    at_home = runner.along_scale(home, (0.0, 1.0))
                    path = None
                    if 1.0 in at_home.losses and 1.0 in curve.losses:
                        ends = (at_home.losses[1.0], curve.losses[1.0])
                        path = runner.between(home, base, ends)
                    evidence = LossEvidence(text, curve, at_home, path)
        progress.finish()
    return evidence, [*findings, finding]
