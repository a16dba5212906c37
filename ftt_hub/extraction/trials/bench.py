"""A target on which codings of a diff vector are tried, and the text they are tried on."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.codecs.quantized import QuantizedCodec
from ftt_hub.extraction.trials.draft import Draft
from ftt_hub.extraction.trials.trial import LossTrial, TrialPoint
from ftt_hub.loss import HeldOutText, Loss, divergence, mean_difference, measure, read_text
from ftt_hub.loss.measurement import LossError
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.transfer.load import load_model
from ftt_hub.transfer.prepare import prepared

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 4
"""One window in so many tells which codings are worth measuring on all of them."""

FEW = 8
"""Windows below which all are always used."""

SPREAD = 16
"""The windows are taken from so many times as much text, if there is so much."""

Make = Callable[[QuantizedCodec | None], tuple[Adapter, Draft]]
"""Makes an adapter of a codec, its container a draft; with ``None`` that of Δ itself."""


@dataclass(frozen=True)
class Passage:
    """Windows of the text that codings are measured on.

    Attributes:
        text: The windows.
        exact: Loss of m_t + Δ on them.
    """

    text: HeldOutText
    exact: Loss


class Bench:
    """Loads the target with each coding that is tried: one model in memory, two for `compare`.

    Args:
        trial: The text and the target; filled with what is seen.
        default: The target, where the trial names none.
        make: Makes adapters.
        workers: Threads.
        progress: Watches; a unit is a window of text.

    Attributes:
        all: The whole text.
        part: A fair sample of it.
    """

    def __init__(
        self,
        trial: LossTrial,
        default: Path,
        make: Make,
        *,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._trial, self._make = trial, make
        self._workers, self._progress = workers, progress or Silent()
        checkpoint, _ = open_model(trial.target or default)
        self._folder = checkpoint.folder
        checkpoint.close()
        text = _text(trial, self._folder)
        with self._placed([_plain(self._folder)]) as model:
            trial.before = self._loss(model, text, "m_t").estimate()
            del model  # the next one is loaded when this one is gone
        adapter, _ = make(None)
        with self._sum(adapter) as model:
            self.all = Passage(text, self._loss(model, text, "m_t + Δ"))
            del model
        trial.exact = self.all.exact.estimate()
        self.part = _sample(self.all)

    def try_(self, codec: QuantizedCodec, passage: Passage) -> TrialPoint:
        """Measure one codec and keep the point."""
        adapter, draft = self._make(codec)
        with self._sum(adapter) as model:
            loss = self._loss(model, passage.text, f"{codec.rounding}, step {codec.step:.3g}")
            del model
        cost, exact = draft.cost(self._workers), passage.exact
        point = TrialPoint(
            rounding=codec.rounding,
            step=codec.step,
            noise=cost.noise,
            bits_per_weight=cost.bits_per_weight,
            tokens=passage.text.tokens,
            loss=loss.estimate(),
            increase=mean_difference(loss.nats, exact.nats, loss.tokens),
        )
        self._trial.points.append(point)
        return point

    def compare(self, codec: QuantizedCodec, passage: Passage) -> float:
        """KL(m_t + Δ ‖ m_t + Δ̂); holds the model twice."""
        with self._sum(self._make(None)[0]) as reference, self._sum(self._make(codec)[0]) as model:
            found = divergence(model, reference, passage.text).nats
            del model, reference
        return found

    def _loss(self, model: PreTrainedModel, text: HeldOutText, what: str) -> Loss:
        self._progress.start(what, len(text.windows), "windows")
        loss = measure(model, text, where=what, advance=self._progress.advance)
        self._progress.finish()
        return loss

    @contextmanager
    def _sum(self, adapter: Adapter) -> Iterator[PreTrainedModel]:
        """The target with an adapter added while it is loaded."""
        with prepared(adapter, self._folder) as target:
            held = [load_model("AutoModelForCausalLM", adapter, target, scale=1.0)]
        with self._placed(held) as model:
            yield model
            del model

    @contextmanager
    def _placed(self, held: list[PreTrainedModel]) -> Iterator[PreTrainedModel]:
        """The model where it is to run; nothing holds it afterwards."""
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = held.pop().to(device)  # type: ignore[arg-type]
            alive = weakref.ref(model)
            yield model
            del model
            if alive() is not None:  # in a cycle of references
                gc.collect()
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise LossError(
                "out of memory", where=self._folder,
                hint="Use a larger machine, or choose by --noise without --text.",
            ) from error  # fmt: skip


def _plain(folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def _text(trial: LossTrial, folder: Path) -> HeldOutText:
    """Windows spread over the text, since its beginning may be unlike the rest."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    text = read_text(trial.text, words, tokens=SPREAD * trial.tokens)
    share = min(1.0, trial.tokens / text.tokens)
    return _some(text, evenly(len(text.windows), math.ceil(share * len(text.windows))))


def _sample(whole: Passage) -> Passage:
    count = len(whole.text.windows)
    if count < FEW:
        return whole
    places = evenly(count, math.ceil(count / SHARE))
    exact = Loss(whole.exact.nats[places], whole.exact.tokens[places])
    return Passage(_some(whole.text, places), exact)


def evenly(total: int, count: int) -> list[int]:
    """So many places, spread over a range."""
    return [number * total // count for number in range(count)]


def _some(text: HeldOutText, places: list[int]) -> HeldOutText:
    return replace(text, windows=tuple(text.windows[place] for place in places))
