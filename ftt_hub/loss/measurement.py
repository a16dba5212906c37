"""A model's loss on held-out text, window by window, and how far two models' outputs lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ftt_hub.errors import FttError
from ftt_hub.loss.estimates import Estimate, Floats, bounds, resampled

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ftt_hub.loss.text import HeldOutText, Window

_LOGITS_BYTES = 128 << 20  # float32 logits of one batch
_TOGETHER = 64  # tokens whose distributions are compared at a time, so that they stay in the cache


class LossError(FttError):
    """The loss is NaN or infinite, or memory ran out while it was measured."""


class NotANumberError(LossError):
    """The loss is NaN or infinite."""


@dataclass(frozen=True)
class Loss:
    """Cross entropy of one model on held-out text.

    Attributes:
        nats: Summed cross entropy of each window, in nats, shape (windows,).
        tokens: Scored tokens of each window, shape (windows,).
    """

    nats: Floats
    tokens: Floats

    @property
    def mean(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        """``exp(mean)``."""
        return float(np.exp(self.mean))

    def estimate(self, *, seed: int = 0) -> Estimate:
        """The mean with its bootstrap interval."""
        drawn = resampled(np.stack([self.nats, self.tokens], axis=1), seed=seed)
        return bounds(self.mean, drawn[:, 0] / drawn[:, 1])


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence of one model's next-token distribution from another's.

    Attributes:
        nats: Mean over the scored tokens, in nats.
        same_token: Share of the scored tokens at which both models' likeliest token is the same.
    """

    nats: float
    same_token: float


def measure(
    model: PreTrainedModel,
    text: HeldOutText,
    *,
    where: object = None,
    advance: Callable[[int], None] | None = None,
) -> Loss:
    """Measure the loss of a causal language model on held-out text.

    The model is neither moved nor cast nor left in another mode. Windows of similar length share a
    batch, padded on the right; logits are float32, 128 MB a batch.

    Args:
        model: A causal language model; its forward pass gives logits (batch, length, vocabulary).
        text: Windows under the model's own tokenizer.
        where: Names the model in an error.
        advance: Called with the number of windows done.

    Raises:
        LossError: A loss is NaN or infinite, or memory ran out.
    """
    from torch.nn.functional import cross_entropy

    count = len(text.windows)
    nats, tokens = np.zeros(count), np.zeros(count)
    for numbers, ids, scored, logits in logits_of(model, text, where=where):
        flat = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        kept = scored[:, 1:]
        losses = flat.view(kept.shape).double() * kept
        nats[numbers] = losses.sum(1).cpu().numpy()
        tokens[numbers] = kept.sum(1).cpu().numpy()
        if advance is not None:
            advance(len(numbers))
    if not np.isfinite(nats).all():
        raise NotANumberError(
            "the loss is not a number",
            where=where or text.label,
            found=f"{np.count_nonzero(~np.isfinite(nats))} of {count} windows",
            hint="Weights or dtype overflow; try float32 or a smaller scale.",
        )
    return Loss(nats, tokens)


def divergence(
    model: PreTrainedModel, reference: PreTrainedModel, text: HeldOutText, *, where: object = None
) -> Divergence:
    """Measure KL(reference ‖ model) on held-out text, both models under the same tokenizer.

    Raises:
        LossError: Memory ran out, or a logit is NaN.
    """
    total = same = count = 0.0
    pairs = zip(
        logits_of(model, text, where=where), logits_of(reference, text, where=where), strict=True
    )
    for (_, _, scored, ours), (_, _, _, theirs) in pairs:
        targets = scored[:, 1:].nonzero()
        for start in range(0, len(targets), _TOGETHER):
            rows, columns = targets[start : start + _TOGETHER].unbind(1)
            log_p = theirs[rows, columns].log_softmax(-1)
            log_q = ours[rows, columns].log_softmax(-1)
            same += float((log_p.argmax(-1) == log_q.argmax(-1)).sum())
            total += float((log_p.exp() * log_p.sub_(log_q)).sum())
        count += len(targets)
    if not np.isfinite(total):
        raise LossError("the divergence is not a number", where=where or text.label)
    return Divergence(total / count, same / count)


def logits_of(
    model: PreTrainedModel, text: HeldOutText, *, where: object = None
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Run a model over all windows, a batch at a time.

    Yields:
        The windows' numbers in `text`; their ids, int64 (batch, length); which are scored, bool
        (batch, length); the logits, float32 (batch, length, vocabulary).

    Raises:
        LossError: Memory ran out.
    """
    import torch

    embedding = cast("torch.Tensor", model.get_input_embeddings().weight)
    device, width = embedding.device, embedding.shape[0]
    training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    try:
        for numbers in _batches(text.windows, width):
            ids, scored = _padded([text.windows[number] for number in numbers])
            ids, scored = ids.to(device), scored.to(device)
            lengths = torch.tensor([len(text.windows[number].ids) for number in numbers])
            mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
            try:
                with torch.no_grad():  # never around the yield: whoever waits there would be in it
                    output = model(input_ids=ids, attention_mask=mask.to(device), use_cache=False)
                    logits = output.logits.float()
            except torch.OutOfMemoryError as error:
                raise LossError(
                    "out of memory in a forward pass",
                    where=where or text.label,
                    hint="Use a shorter --window, or a device with more memory.",
                ) from error
            yield numbers, ids, scored, logits
    finally:
        model.train(training)


def _batches(windows: tuple[Window, ...], vocabulary: int) -> Iterator[list[int]]:
    """Numbers of windows that share a batch: of similar length, with at most so many logits."""
    order = sorted(range(len(windows)), key=lambda number: len(windows[number].ids))
    batch: list[int] = []
    for number in order:
        length = len(windows[number].ids)
        if batch and (len(batch) + 1) * length * vocabulary * 4 > _LOGITS_BYTES:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(windows: list[Window]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    length = max(len(window.ids) for window in windows)
    ids = torch.zeros(len(windows), length, dtype=torch.int64)
    scored = torch.zeros(len(windows), length, dtype=torch.bool)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        scored[row, : len(window.ids)] = torch.tensor(window.scored)
    return ids, scored
