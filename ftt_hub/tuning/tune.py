"""`tune`: the scale, or the scales, at which held-out loss is least."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.card_scales import Recommendation, recommend
from ftt_hub.artifact.manifest import read_config
from ftt_hub.checkpoint.resolve import model_folder
from ftt_hub.errors import FttError
from ftt_hub.loss import Estimate, HeldOutText, Loss, mean_difference, measure, read_text
from ftt_hub.registry.open import AdapterLike, open_adapter
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.refs import parse_ref
from ftt_hub.transfer.live.arrangement import Arrangement
from ftt_hub.transfer.tokenizer import load_tokenizer
from ftt_hub.tuning.search import Range, Scales, rounded, search_one, search_several

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_TOKENS = 20_000


@dataclass(frozen=True)
class TuneResult:
    """The result of a search.

    Attributes:
        adapters: Labels, in the order of the scales.
        digests: Content digests of the adapters.
        target: Label of the target.
        text: Name of the text.
        tokens: Scored tokens.
        limits: The range searched.
        scales: The best scales, one per adapter.
        loss: Loss at the best scales in nats per token, with its interval.
        against_one: Loss at the best scales minus loss at scale 1, paired by window.
        against_zero: Loss at the best scales minus the loss of the target alone.
        curve: (scales, nats per token) of all trials, in their order.
    """

    adapters: tuple[str, ...]
    digests: tuple[str, ...]
    target: str
    text: str
    tokens: int
    limits: Range
    scales: Scales
    loss: Estimate
    against_one: Estimate
    against_zero: Estimate
    curve: tuple[tuple[Scales, float], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before relying on the result."""
        notes = [
            f"the scale was chosen on {self.text}: its loss there is a little too low, and other "
            "text may need another scale"
        ]
        edges = (self.limits.low, self.limits.high)
        if any(min(abs(s - e) for e in edges) <= self.limits.tolerance for s in self.scales):
            notes.append(
                f"a best scale lies at the edge of {edges[0]:g} to {edges[1]:g}: look further"
            )
        if self.against_one.low <= 0 <= self.against_one.high:
            notes.append("the gain over scale 1 is within the noise of this text")
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "adapters": list(self.adapters),
            "target": self.target,
            "text": self.text,
            "tokens": self.tokens,
            "scales": list(self.scales),
            "loss": self.loss.to_json(),
            "against_one": self.against_one.to_json(),
            "against_zero": self.against_zero.to_json(),
            "curve": [{"scales": list(scales), "loss": loss} for scales, loss in self.curve],
            "notes": list(self.notes),
        }


def tune(
    adapters: AdapterLike | Sequence[AdapterLike],
    target: PathLike | PreTrainedModel,
    text: PathLike,
    *,
    limits: Range | None = None,
    tokens: int | None = DEFAULT_TOKENS,
    tokenizer: PreTrainedTokenizerBase | None = None,
    registry: PathLike | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TuneResult:
    """Find the scales λᵢ at which m_t + Σ λᵢ·Δᵢ has the least loss on held-out text.

    The target is in memory once; from one trial to the next only Δ moves, bit-exactly. One adapter
    is searched by golden section, several by Nelder–Mead.

    Args:
        adapters: One or several: folders, references or opened ones.
        target: m_t, a folder or Hub reference, or a causal language model in memory, which is as
            it was afterwards.
        text: Held-out text (`ftt_hub.loss.read_text`).
        limits: The range to search; default 0 to 2.
        tokens: Number of scored tokens of the text to use.
        tokenizer: Tokenizer for the text; default the first adapter's, else the target's.
        registry: ``"hf"`` or a folder.
        device: Torch device for a target named by reference; default the GPU if there is one.
        force: Continue although the target is rejected.
        progress: Receives progress events in windows of text; default: none.

    Raises:
        MissingExtraError: SciPy is not installed.
        IncompatibleError: An adapter does not fit the target.
        TextError: The text cannot be used.
        LossError: A loss is not a number.
    """
    with ExitStack() as stack:
        given = (
            adapters
            if isinstance(adapters, Sequence) and not isinstance(adapters, str)
            else [adapters]
        )
        opened = [_opened(item, registry, stack) for item in given]
        if not opened:
            raise FttError("name at least one adapter to tune")
        model, label, folder = _model(target, device)
        words = tokenizer or load_tokenizer(opened[0], folder)
        held_out = read_text(text, words, tokens=tokens)
        arrangement = stack.enter_context(Arrangement(model, opened, tokenizer=folder, force=force))
        trials = _Trials(model, held_out, arrangement, limits or Range(), progress or Silent())
        return trials.search(opened, label)


def _opened(item: AdapterLike, registry: PathLike | None, stack: ExitStack) -> Adapter:
    if isinstance(item, str | Path):
        return stack.enter_context(open_adapter(item, registry=registry))
    return item.opened


def _model(
    target: PathLike | PreTrainedModel, device: str | None
) -> tuple[PreTrainedModel, str, str | None]:
    """The model, its label, and where its tokenizer lies."""
    if not isinstance(target, str | Path):
        name = getattr(target, "name_or_path", "") or None
        return target, name or type(target).__name__, name
    import torch
    from transformers import AutoModelForCausalLM

    folder, label, _ = model_folder(target)
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(chosen), label, str(folder)  # type: ignore[arg-type]


def write_recommendations(result: TuneResult, adapters: Sequence[PathLike]) -> list[Path]:
    """Write each best scale into the card of its adapter's folder.

    Raises:
        FttError: An adapter is no local folder, or no longer the one that was tuned.
        OutputError: A card cannot be written.
    """
    folders = []
    for text, digest in zip(adapters, result.digests, strict=True):
        ref = parse_ref(text)
        if ref.folder is None or read_config(ref.folder).content_digest != digest:
            raise FttError(
                "a recommended scale is written into the card of a local folder",
                where=text,
                hint="Pull the adapter, tune that folder with --write, and push it again.",
            )
        folders.append(ref.folder)
    gain = max(0.0, -result.against_one.value)
    for folder, scale in zip(folders, result.scales, strict=True):
        recommend(folder, Recommendation(_named(result.target), scale, result.text, gain))
    return folders


def _named(target: str) -> str:
    """A target without the path to it: cards hold no local paths."""
    return target if parse_ref(target).folder is None else Path(target).resolve().name


class _Trials:
    """Losses by scales; each is measured once."""

    def __init__(
        self,
        model: PreTrainedModel,
        text: HeldOutText,
        arrangement: Arrangement,
        limits: Range,
        progress: Progress,
    ) -> None:
        self._model, self._text, self._arrangement = model, text, arrangement
        self._limits, self._progress = limits, progress
        self._losses: dict[Scales, Loss] = {}

    def measured(self, scales: Sequence[float]) -> Loss:
        """The loss at these scales."""
        key = rounded(scales, self._limits)
        if key not in self._losses:
            named = ", ".join(f"{scale:g}" for scale in key)
            self._progress.start(f"scale {named}", len(self._text.windows), "windows")
            moved = self._arrangement.moves_rows  # then its tokens need their rows at scale 0 too
            self._arrangement.set([scale if scale or moved else None for scale in key])
            self._losses[key] = measure(
                self._model, self._text, where=f"scale {named}", advance=self._progress.advance
            )
            self._progress.finish()
        return self._losses[key]

    def search(self, adapters: Sequence[Adapter], target: str) -> TuneResult:
        """Search the best scales of the adapters on a target."""
        count = len(adapters)
        zero, one = self.measured([0.0] * count), self.measured([1.0] * count)

        def objective(scales: Scales) -> float:
            return self.measured(scales).mean

        if count == 1:
            search_one(objective, self._limits)
        else:
            search_several(objective, count, self._limits)
        scales = min(self._losses, key=lambda key: self._losses[key].mean)
        best = self._losses[scales]
        return TuneResult(
            tuple(adapter.label for adapter in adapters),
            tuple(adapter.config.content_digest for adapter in adapters),
            target,
            self._text.label,
            self._text.tokens,
            self._limits,
            scales,
            best.estimate(),
            mean_difference(best.nats, one.nats, one.tokens),
            mean_difference(best.nats, zero.nats, zero.tokens),
            tuple((key, loss.mean) for key, loss in self._losses.items()),
        )
