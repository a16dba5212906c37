"""The factors of PEFT layers whose update is a product of two matrices: LoRA and AdaLoRA.

Only plain layers count: what a variant (DoRA and others) adds is no product. PEFT's own
`get_delta_weight` decides: factors whose product differs from it are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ftt_hub.codecs.factored import PlainFactors

AGREES = 1e-4
"""‖B·A − PEFT's Δ‖/‖Δ‖ up to which both are the same but for rounding."""


@dataclass(frozen=True)
class _Parts:
    """Δ = scale · left · right, or its transpose."""

    left: torch.Tensor
    right: torch.Tensor
    scale: float
    turned: bool


def _adapter_name(module: Any) -> str | None:
    """The one adapter of a plain layer."""
    names = list(getattr(module, "active_adapters", ()))
    variants = getattr(module, "lora_variant", None) or {}
    plain = len(names) == 1 and not variants and not module.disable_adapters
    return str(names[0]) if plain else None


def _parts(module: Any, name: str) -> _Parts | None:
    """The factors as the layer holds them."""
    from peft.tuners.adalora.layer import SVDLinear
    from peft.tuners.lora.layer import Embedding, Linear

    kind, scale = type(module), float(getattr(module, "scaling", {}).get(name, 1.0))
    if kind is Linear and name in module.lora_A:
        left, right = module.lora_B[name].weight, module.lora_A[name].weight
        return _Parts(left, right, scale, bool(module.fan_in_fan_out))
    if kind is Embedding and name in module.lora_embedding_A:
        left, right = module.lora_embedding_B[name], module.lora_embedding_A[name]
        return _Parts(left, right, scale, True)
    if kind is SVDLinear and name in module.lora_A:
        right = module.lora_A[name].double() * module.lora_E[name].double()
        scale /= float(module.ranknum[name]) + 1e-5
        return _Parts(module.lora_B[name], right, scale, bool(module.fan_in_fan_out))
    return None


def has_factors(module: Any) -> bool:
    """Whether a layer's update is a product of two matrices, by its kind."""
    name = _adapter_name(module)
    return name is not None and _parts(module, name) is not None


@torch.no_grad()
def factors_of(module: Any) -> PlainFactors | None:
    """The factors of Δ of a layer's weight, with the scale in them, or ``None``."""
    name = _adapter_name(module)
    parts = None if name is None else _parts(module, name)
    if parts is None:
        return None
    left, right = parts.left, parts.right
    if parts.turned:
        left, right = right.T, left.T
    expected = module.get_delta_weight(name)
    if left.ndim != 2 or expected.shape != (left.shape[0], right.shape[1]):
        return None
    difference = (left.float() @ right.float()).mul_(parts.scale).sub_(expected)
    if not float(difference.norm()) <= AGREES * float(expected.float().norm()):
        return None
    return PlainFactors((left.double() * parts.scale).numpy(), right.double().numpy())
