"""`AdapterRouter`: several adapters on one model, chosen per input."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.errors import FttError
from ftt_hub.registry.open import AdapterLike, open_adapter
from ftt_hub.routing.neighbours import EmbeddingFeatures, Features, Neighbours
from ftt_hub.support.closing import Closing
from ftt_hub.support.paths import PathLike
from ftt_hub.transfer.live.arrangement import Arrangement

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

R = TypeVar("R")
Named = AdapterLike | None
"""An adapter; ``None`` stands for the model alone."""


@dataclass(frozen=True)
class Route:
    """The adapters that a text is answered with.

    Attributes:
        scales: Label of each adapter that is put on the model → its scale; empty: the model alone.
        similarity: Cosine of the nearest example; 0 for a text without features.
        votes: Label of each adapter among the nearest examples → its share of them.
    """

    scales: Mapping[str, float]
    similarity: float
    votes: Mapping[str, float]


class AdapterRouter(Closing):
    """Picks an adapter for each text by its nearest examples, and puts it on the model in place.

    After Auto-Switch of Qi et al. 2025, "Less is More: Efficient Model Merging with Binary Task
    Switch" (CVPR): a k-nearest-neighbour over features of a few examples a task, no training.
    Features here are the mean of a text's input embeddings in the target, centred over all
    examples: no forward pass, so that choosing costs next to nothing.

    A small batch is grouped by adapter, and Δ is swapped a parameter at a time between groups: one
    model in memory, however many adapters. After `close` the model is bit for bit as before. One
    batch runs at a time; a second thread waits.

    Args:
        model: A transformers model, the target of all the adapters.
        adapters: Each adapter (folder, reference or opened one) with example texts; ``None`` as an
            adapter: texts for the model alone. A mapping, or pairs.
        tokenizer: The model's tokenizer; default from where the model was loaded.
        k: Number of nearest examples that vote.
        mix: Put all adapters that got votes on the model, each scaled by its share, instead of the
            one with most votes.
        scale: λ of an adapter that got all votes.
        min_similarity: The model alone answers where the nearest example has a lower cosine.
        features: Makes rows of texts; default the mean of their input embeddings.
        registry: ``"hf"`` or a folder.
        force: Continue although the model is rejected as a target.

    Raises:
        FttError: No adapter, no examples, or adapters that cannot be on one model.
        IncompatibleError: An adapter does not fit the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapters: Mapping[Any, Sequence[str]] | Sequence[tuple[Named, Sequence[str]]],
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        k: int = 5,
        mix: bool = False,
        scale: float = 1.0,
        min_similarity: float | None = None,
        features: Features | None = None,
        registry: PathLike | None = None,
        force: bool = False,
    ) -> None:
        pairs = list(adapters.items()) if isinstance(adapters, Mapping) else list(adapters)
        _check(pairs, k)
        self._model, self._k, self._mix, self._scale = model, k, mix, scale
        self._least = min_similarity
        self._lock = threading.Lock()
        self._tokenizer = tokenizer
        with ExitStack() as stack:
            named = [item for item, _ in pairs if item is not None]
            opened = [_opened(item, registry, stack) for item in named]
            self.labels = tuple(adapter.label for adapter in opened)
            origin = getattr(model, "name_or_path", "") or None
            self._arrangement = Arrangement(model, opened, tokenizer=origin, force=force)
        try:
            self._neighbours = Neighbours(features or self._embeddings(), _examples(pairs))
        except BaseException:
            self._arrangement.close()
            raise

    def _embeddings(self) -> EmbeddingFeatures:
        weight: Any = self._model.get_input_embeddings().weight
        copy = self._arrangement.changes(weight)
        return EmbeddingFeatures(self._model, self._words, copy=copy)

    @property
    def _words(self) -> PreTrainedTokenizerBase:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            named = getattr(self._model, "name_or_path", "")
            if not named:
                raise FttError("the model does not know its tokenizer", hint="Pass tokenizer=.")
            self._tokenizer = AutoTokenizer.from_pretrained(named)
        return self._tokenizer

    def route(self, texts: Sequence[str]) -> list[Route]:
        """What each text would get; the model is not touched."""
        routes = []
        for indices, cosines in self._neighbours.nearest(texts, self._k):
            labels = self._neighbours.labels[indices]
            nearest = float(cosines[0]) if len(cosines) else 0.0
            counts: dict[int, int] = {}
            for label in labels:  # nearest first: of equal counts the nearer one comes first
                counts[int(label)] = counts.get(int(label), 0) + 1
            votes = {number: count / len(labels) for number, count in counts.items()}
            routes.append(self._route(votes, nearest))
        return routes

    def _route(self, votes: dict[int, float], nearest: float) -> Route:
        known = not votes or (self._least is not None and nearest < self._least)
        chosen = {} if known else votes
        if chosen and not self._mix:
            chosen = {max(chosen, key=lambda number: chosen[number]): 1.0}
        scales = {self.labels[n]: self._scale * share for n, share in chosen.items() if n >= 0}
        named = {("" if n < 0 else self.labels[n]): share for n, share in votes.items()}
        return Route(scales, nearest, named)

    def run(
        self, texts: Sequence[str], function: Callable[[PreTrainedModel, list[str]], Sequence[R]]
    ) -> list[R]:
        """Answer a batch: group by adapter, swap, call, and put the answers in the texts' order.

        The adapters that are on the model come first, so that a batch like the last one costs no
        swap. The last group's stay on until the next batch or `close`.

        Args:
            texts: The batch.
            function: Called once a group with the model and the group's texts; one answer each.

        Raises:
            FttError: The function gave another number of answers.
        """
        with self._lock:
            groups: dict[tuple[float | None, ...], list[int]] = {}
            for number, route in enumerate(self.route(texts)):
                key = tuple(route.scales.get(label) for label in self.labels)
                groups.setdefault(key, []).append(number)
            answers: dict[int, R] = {}
            now = self._arrangement.scales
            for key in sorted(groups, key=lambda key: key != now):
                self._arrangement.set(key)
                answers.update(self._answered(groups[key], texts, function))
            return [answers[number] for number in range(len(texts))]

    def _answered(
        self,
        group: list[int],
        texts: Sequence[str],
        function: Callable[[PreTrainedModel, list[str]], Sequence[R]],
    ) -> dict[int, R]:
        answers = list(function(self._model, [texts[number] for number in group]))
        if len(answers) != len(group):
            raise FttError(
                "the function gave another number of answers than texts",
                expected=len(group),
                found=len(answers),
            )
        return dict(zip(group, answers, strict=True))

    def generate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Continue each text with the adapter it gets; options go to transformers' `generate`."""

        def continued(model: PreTrainedModel, part: list[str]) -> list[str]:
            import torch

            words: Any = self._words
            side, words.padding_side = words.padding_side, "left"
            if words.pad_token is None:
                words.pad_token = words.eos_token
            try:
                batch = words(part, return_tensors="pt", padding=True, return_token_type_ids=False)
            finally:
                words.padding_side = side
            with torch.inference_mode():
                ids: Any = model.generate(**batch.to(model.device), **options)  # type: ignore[operator]
            new = ids[:, batch["input_ids"].shape[1] :]
            return list(words.batch_decode(new, skip_special_tokens=True))

        return self.run(texts, continued)

    @property
    def on_model(self) -> Mapping[str, float]:
        """The adapters on the model now, with their scales."""
        scales = zip(self.labels, self._arrangement.scales, strict=True)
        return {label: scale for label, scale in scales if scale is not None}

    def close(self) -> None:
        """Take everything off: the model is bit for bit as it was."""
        self._arrangement.close()


def _check(pairs: Sequence[tuple[Named, Sequence[str]]], k: int) -> None:
    if not any(item is not None for item, _ in pairs):
        raise FttError("name at least one adapter", where="AdapterRouter")
    if k < 1:
        raise FttError("k must be at least 1", where="AdapterRouter", found=k)
    for item, texts in pairs:
        if not texts or isinstance(texts, str):
            raise FttError(
                "needs a list of example texts", where="no adapter" if item is None else item
            )


def _examples(pairs: Sequence[tuple[Named, Sequence[str]]]) -> list[tuple[int, str]]:
    """Texts with the number of their adapter, −1 for the model alone."""
    examples, number = [], 0
    for item, texts in pairs:
        label = -1 if item is None else number
        number += item is not None
        examples += [(label, text) for text in texts]
    return examples


def _opened(item: Named, registry: PathLike | None, stack: ExitStack) -> Adapter:
    if isinstance(item, str | Path):
        return stack.enter_context(open_adapter(item, registry=registry))
    if item is None:
        raise FttError("no adapter", where="AdapterRouter")
    return item.opened
