"""From what the user asks for (bits, a size, an error) to a codec with its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.catalogue import CODECS
from ftt_hub.codecs.catalogue import codec as codec_of
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.lossy import rate
from ftt_hub.codecs.quantized import NEAREST, ROTATED, STOCHASTIC, QuantizedCodec, round_step
from ftt_hub.errors import ExtractionError, FttError
from ftt_hub.extraction.encoding import Weights
from ftt_hub.extraction.pairs import Pair
from ftt_hub.extraction.survey import SurveyResult, coded_share, survey
from ftt_hub.support.progress import Progress
from ftt_hub.support.yaml_lines import LinedYaml

AUTO = "auto"

_ERROR_MARGIN = 0.99
"""The part of an error limit that is aimed at, since the error of a step is predicted."""


@dataclass(frozen=True)
class Coding:
    """How Δ is to be stored; at most one of the limits.

    Attributes:
        codec: Id of a codec, ``auto``, or for PEFT adapters ``factored``.
        bits: Bits a weight, over all weights of the fine-tuned model.
        target_size: Bytes of the container, hit within 3%.
        max_error: Largest ‖Δ̂ − Δ‖ / ‖Δ‖, with rounding to nearest.
        noise: ‖Δ̂ − Δ‖ / ‖m_s‖; the default limit is `rate.NOISE`.
        step: The step itself.
        rounding: ``nearest``, ``stochastic`` or ``rotated``; default by rule (`rate.choose`).
        seed: Of the stochastic rounding and of the rotation.

    Raises:
        ExtractionError: Limits that contradict each other or the codec.
        UnsupportedError: Limits for an unknown codec.
    """

    codec: str = "exact"
    bits: float | None = None
    target_size: int | None = None
    max_error: float | None = None
    noise: float | None = None
    step: float | None = None
    rounding: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "bits": self.bits,
            "target size": self.target_size,
            "largest error": self.max_error,
            "noise": self.noise,
            "step": self.step,
        }
        given = {name: value for name, value in limits.items() if value is not None}
        if len(given) > 1:
            raise ExtractionError("more than one limit", found=" and ".join(given))
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise ExtractionError(f"the {name} must be a positive number", found=value)
        if (given or self.rounding) and self.codec not in ("quantized", AUTO):
            raise ExtractionError(
                f"codec {self.codec} {_nature(codec_of(self.codec))} and takes no limit",
                found=", ".join(given) or self.rounding,
                hint="Add --codec quantized.",
            )


def _nature(codec: Codec) -> str:
    if codec.needs_factors:
        return "keeps factors"
    return "is lossless" if codec.exact else "has a fixed size"


def recipe_coding(recipe: LinedYaml, error_type: type[FttError]) -> Coding:
    """The `codec` section of a recipe: any codec that encodes Δ from itself alone, or ``auto``.

    Raises:
        FttError: Of the type given: another codec; with the line.
        ExtractionError: Limits that contradict each other or the codec.
    """
    value = dict(recipe.value.get("codec", {"id": ExactCodec.id}))
    chosen = value.pop("id")
    allowed = [
        name for name, kind in CODECS.items() if not (kind.needs_source or kind.needs_factors)
    ]
    if chosen not in (*allowed, AUTO):
        raise error_type(
            f"unknown id {chosen!r}: expected one of {', '.join([*allowed, AUTO])}",
            where=recipe.place("codec", "id"),
        )
    return Coding(chosen, **value)


@dataclass
class Chooser:
    """Finds the codecs of any number of codings, with one pass over the two models.

    Attributes:
        pairs: The tensors.
        source: The source base.
        tuned: The fine-tuned model.
        workers: Threads.
        progress: Watches.
        source_square: Σ m_s², where `source` does not tell it.
    """

    pairs: Sequence[Pair]
    source: Weights
    tuned: Weights
    workers: int | None
    progress: Progress
    source_square: float | None = None
    _seen: SurveyResult | None = None
    _turned: bool = False

    def survey(self, *, turned: bool) -> SurveyResult:
        """The statistics, from a pass over both models unless it was made before.

        Args:
            turned: Whether rotated rounding is to be predicted as well.

        Raises:
            NonFiniteError: NaN or infinity on either side.
        """
        if self._seen is None or (turned and not self._turned):
            self._seen = survey(
                self.pairs, self.source, self.tuned, self.workers, self.progress, turned=turned
            )
            self._turned = turned
            if self.source_square is not None:
                self._seen.total.source_square = self.source_square
        return self._seen

    def codec(self, coding: Coding) -> Codec:
        """The codec with its parameters; surveys both models where a limit asks for it.

        Raises:
            ExtractionError: The limit cannot be met.
            UnsupportedError: Unknown codec.
        """
        if coding.codec != AUTO and codec_of(coding.codec).needs_factors:
            raise ExtractionError(
                "the factors of Δ are not known",
                expected="a PEFT adapter whose update is a product of two matrices, such as LoRA",
                found="two models",
                hint="Use --codec exact or quantized.",
            )
        if coding.codec not in ("quantized", AUTO):
            return codec_of(coding.codec)
        if coding.step is not None and coding.rounding != ROTATED:
            return _quantized(coding, coding.step, coding.rounding or STOCHASTIC)
        seen = self.survey(turned=_may_rotate(coding))
        if not seen.total.delta_square:
            return codec_of("exact")
        rms = seen.total.rms
        if coding.step is not None:
            return _quantized(coding, coding.step, ROTATED, rms)
        if coding.bits is not None or coding.target_size is not None:
            return self._for_bits(coding, seen)
        if coding.max_error is not None:
            wanted = (_ERROR_MARGIN * coding.max_error) ** 2 * seen.total.delta_square
            rounding = coding.rounding or NEAREST
            step = rate.step_for_error(seen.total, wanted, rounding)
            return _quantized(coding, step, rounding, rms)
        noise = rate.NOISE if coding.noise is None else coding.noise
        step, rounding = rate.choose(seen.total, noise, coding.rounding)
        return _quantized(coding, step, rounding, rms)

    def _for_bits(self, coding: Coding, seen: SurveyResult) -> Codec:
        """Solve for a budget, measure the coder on a sample of blocks, and solve again."""
        budget = _budget(coding, seen)
        share = 1.0
        for _ in range(2):
            step, rounding = rate.choose_for_bits(seen.total, budget / share, coding.rounding)
            codec = _quantized(coding, step, rounding, seen.total.rms)
            share = coded_share(codec, self.pairs, self.source, self.tuned)
        step, rounding = rate.choose_for_bits(seen.total, budget / share, coding.rounding)
        return _quantized(coding, step, rounding, seen.total.rms)

    def bits_per_weight(self, codec: QuantizedCodec) -> float:
        """What a codec will take, over all weights of the fine-tuned model; predicted."""
        seen = self.survey(turned=codec.rounding == ROTATED)
        bits = seen.total.predict(codec.step, codec.rounding, codec.rms).bits
        return (bits + 8 * seen.exact_bytes) / max(1, seen.parameters)


def _may_rotate(coding: Coding) -> bool:
    """Whether the spread of rotated blocks decides anything."""
    if coding.step is not None:
        return False
    return coding.rounding == ROTATED or (coding.rounding is None and coding.max_error is None)


def _quantized(
    coding: Coding, step: float, rounding: str, rms: float | None = None
) -> QuantizedCodec:
    codec = QuantizedCodec(round_step(step, rounding), rounding, coding.seed)
    return codec if rms is None else replace(codec, rms=rms)


def _budget(coding: Coding, seen: SurveyResult) -> float:
    """Bits left for the quantised tensors."""
    if coding.bits is not None:
        left = coding.bits * seen.parameters - 8 * seen.exact_bytes
    else:
        left = 8.0 * ((coding.target_size or 0) - seen.exact_bytes - seen.index_bytes)
    if left <= 0:
        fixed = seen.exact_bytes + seen.index_bytes
        raise ExtractionError(
            "the limit leaves nothing for Δ",
            expected=f"more than {fixed} bytes ({8 * fixed / seen.parameters:.3g} bits a weight)",
            hint="1-D tensors stay exact, and the index takes its place.",
        )
    return left
