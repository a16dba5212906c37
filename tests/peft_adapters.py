"""PEFT adapters as after training, and what PEFT itself makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType
from transformers import AutoModelForCausalLM

T = {"target_modules": ["q_proj", "v_proj", "down_proj"]}


def make_adapter(base: Path, out: Path, kind: str, **settings: Any) -> Path:
    """An adapter as after training: everything trainable has moved."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](task_type="CAUSAL_LM", **settings)
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.02 * noise.to(parameter.dtype))
    adapted.save_pretrained(out)
    return out


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    return dict(PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict())
