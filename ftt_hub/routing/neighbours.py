"""k nearest neighbours among example texts, by the cosine of centred features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ftt_hub.errors import FttError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Floats = NDArray[np.float32]
Features = Callable[[Sequence[str]], "Floats"]
"""Texts → one row each, float32 (texts, width); a row of zeros means a text without features."""


class EmbeddingFeatures:
    """The mean of a text's input embeddings in the target: cheap, and no forward pass.

    Args:
        model: The target; its embeddings are read at once, before any adapter is added to it.
        tokenizer: The model's tokenizer.
        copy: Whether to keep a copy of the embeddings, because adapters change them.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, copy: bool
    ) -> None:
        weight = cast("torch.Tensor", model.get_input_embeddings().weight).detach()
        self._weight = weight.clone() if copy else weight
        self._tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> Floats:
        """One row per text."""
        import torch

        rows = np.zeros((len(texts), self._weight.shape[1]), np.float32)
        for number, text in enumerate(texts):
            ids = self._tokenizer.encode(text, add_special_tokens=False)
            if ids:
                index = torch.tensor(ids, device=self._weight.device)
                rows[number] = self._weight[index].float().mean(0).cpu().numpy()
        return rows


class Neighbours:
    """Labelled examples, of which the nearest to a text are found.

    Args:
        features: Makes rows of texts.
        examples: Texts with their label.

    Raises:
        FttError: An example has no features, or the features are not numbers.
    """

    def __init__(self, features: Features, examples: Sequence[tuple[int, str]]) -> None:
        self._features = features
        self.labels = np.array([label for label, _ in examples])
        rows = self._rows([text for _, text in examples])
        empty = np.flatnonzero(~rows.any(axis=1))
        if empty.size:
            raise FttError(
                "an example text is empty to the model", where=repr(examples[empty[0]][1])[:80]
            )
        self._mean = rows.mean(axis=0)
        self._known = _directions(rows - self._mean)

    def _rows(self, texts: Sequence[str]) -> Floats:
        rows = np.asarray(self._features(texts), np.float32)
        if rows.ndim != 2 or len(rows) != len(texts) or not np.isfinite(rows).all():
            raise FttError(
                "the features are not one row of finite numbers per text",
                expected=f"({len(texts)}, width)",
                found=rows.shape,
            )
        return rows

    def nearest(self, texts: Sequence[str], k: int) -> list[tuple[NDArray[np.intp], Floats]]:
        """For each text the indices of the k nearest examples, nearest first, and their cosines.

        Empty arrays for a text without features.
        """
        rows = self._rows(texts)
        known = [bool(row.any()) for row in rows]
        cosines = _directions(rows - self._mean) @ self._known.T
        neighbours = []
        for row, has_any in zip(cosines, known, strict=True):
            order = np.argsort(-row, kind="stable")[: k if has_any else 0]
            neighbours.append((order, row[order]))
        return neighbours


def _directions(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)
