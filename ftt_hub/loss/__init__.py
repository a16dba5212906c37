"""Held-out loss: text as windows of tokens, a model's loss on them, and how sure it is."""

from ftt_hub.loss.estimates import Estimate, mean_difference, mean_ratio
from ftt_hub.loss.measurement import Divergence, Loss, divergence, logits_of, measure
from ftt_hub.loss.text import HeldOutText, Window, read_text

__all__ = [
    "Divergence",
    "Estimate",
    "HeldOutText",
    "Loss",
    "Window",
    "divergence",
    "logits_of",
    "mean_difference",
    "mean_ratio",
    "measure",
    "read_text",
]
