"""The files of a LoRA adapter as PEFT reads them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.convert.modules import TRANSPOSED, ModuleMap
from ftt_hub.support.staging import writing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoraConfig:
    """`adapter_config.json` of a LoRA adapter.

    Attributes:
        value: Its JSON value.
    """

    value: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        return (json.dumps(self.value, indent=2, sort_keys=True) + "\n").encode()


def _targets(modules: Sequence[str], model: ModuleMap) -> list[str]:
    """The shortest names that select exactly these modules: last components where all are meant."""
    chosen = set(modules)
    last = {m.rpartition(".")[2] for m in chosen}
    everywhere = {m for m in model.linear_modules if m.rpartition(".")[2] in last}
    return sorted(last if everywhere == chosen else chosen)


def lora_config(
    config: AdapterConfig, model: ModuleMap, ranks: Mapping[str, int], saved: Sequence[str]
) -> LoraConfig:
    """The config of factors B·A with scale 1 in every module, so that alpha is the rank."""
    common = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {module: rank for module, rank in sorted(ranks.items()) if rank != common}
    kinds = {p.kind for p in model.parameters.values() if p.module in ranks}
    value: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": config.task_type,
        "base_model_name_or_path": config.source_base.id,
        "revision": config.source_base.revision,
        "r": common,
        "lora_alpha": common,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": _targets(list(ranks), model),
        "modules_to_save": list(saved) or None,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": TRANSPOSED in kinds,
        "inference_mode": True,
    }
    if saved and model.tied:
        value["ensure_weight_tying"] = True
    return LoraConfig(value)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> int:
    """Write a safetensors file.

    Returns:
        Its size in bytes.
    """
    from safetensors.torch import save_file

    with writing(path):
        save_file(dict(sorted(tensors.items())), path, metadata={"format": "pt"})
        return path.stat().st_size


_README = """\
---
library_name: peft
base_model: {base}
---

# LoRA of {name}

Low-rank factors of the diff vector of `{name}` against `{base}`, made by `ftt-hub convert to-lora`.
Relative error over the linear layers: {error:.4f}. It loads in plain PEFT:

```python
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "this folder")
```
"""


def readme(config: AdapterConfig, error: float) -> str:
    """A short card; `error` is ‖Δ − BA‖/‖Δ‖ over the linear layers."""
    return _README.format(base=config.source_base.id, name=config.fine_tuned.id, error=error)
