"""A model whose weights stay on the disk until they are looked at, for PEFT to put its layers into.

The modules are transformers' own, built on the meta device; each parameter is then a private
memory map of the checkpoint. PEFT's methods that look at the base's weights (orthogonal subspaces,
principal components, magnitudes) see the real ones, a layer at a time, and what they write never
reaches the file.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.errors import UnsupportedError
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.live.names import map_names

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_BY_TASK = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}


def _model_class(config: PreTrainedConfig, task: str | None, folder: Path) -> Any:
    """The class the adapter was trained with: by its task, else the architecture of the base."""
    import transformers

    names = getattr(config, "architectures", None) or []
    auto = getattr(transformers, _BY_TASK.get(task or "", "AutoModelForCausalLM"))
    chosen = getattr(transformers, str(names[0]), None) if names and task not in _BY_TASK else None
    if chosen is None and type(config) in auto._model_mapping:  # noqa: SLF001 - as in loading.py
        chosen = auto._model_mapping[type(config)]  # noqa: SLF001
    if chosen is None:
        raise UnsupportedError(
            f"transformers has no class for {', '.join(map(str, names)) or 'this model'}",
            where=folder,
            hint="Models with code of their own are not run here; merge with PEFT, then extract.",
        )
    return chosen


def _mapped(checkpoint: Checkpoint, info: TensorInfo) -> torch.Tensor:
    """A tensor of the checkpoint, paged in when it is looked at; writes stay private."""
    path = checkpoint.path_of(info.name)
    if path is None or not info.count:
        bits = checkpoint.read_bits(info.name, 0, info.count)
    else:
        bits = np.memmap(path, info.dtype.numpy, mode="c", offset=info.start, shape=(info.count,))
    dtype = getattr(torch, info.dtype.torch_name or "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what numpy's unsigned types are called does not matter
        return torch.from_numpy(np.asarray(bits).view(np.uint8)).view(dtype).reshape(info.shape)


def _config(folder: Path, task: str | None, labels: int | None) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise UnsupportedError(
            f"transformers cannot read the base's config ({str(error).splitlines()[0][:120]})",
            where=folder / "config.json",
        ) from error
    if task in _BY_TASK and labels is not None:
        config.num_labels = labels
    return config


def build(
    checkpoint: Checkpoint, task: str | None, labels: int | None = None
) -> tuple[PreTrainedModel, dict[str, str]]:
    """The model of a checkpoint with its weights on the disk.

    Args:
        checkpoint: The base.
        task: PEFT's task type, which names the class.
        labels: Rows of a classifier's head.

    Returns:
        The model, and the parameter that each checkpoint tensor became, for those that became
        one unchanged; fused ones (experts) are left out, and their parameter holds zeros.

    Raises:
        UnsupportedError: transformers has no class for it.
    """
    config = _config(checkpoint.folder, task, labels)
    with torch.device("meta"):
        model = _model_class(config, task, checkpoint.folder)(config)
    model.tie_weights()
    names = map_names(model, checkpoint.tensors)
    keys = {g.names[0]: g.key for g in names.groups if g.converter is None and len(g.names) == 1}
    infos = {key: checkpoint.tensors[name] for name, key in keys.items()}
    _fill(model, checkpoint, infos)
    model.eval()
    model.requires_grad_(False)
    model.config.name_or_path = str(checkpoint.folder)
    return model, keys


def _fill(model: PreTrainedModel, checkpoint: Checkpoint, infos: dict[str, TensorInfo]) -> None:
    """Replace each meta parameter by a memory map, or by zeros that take no memory."""
    fallback = next((i.dtype.torch_name for i in infos.values() if i.dtype.is_float), "float32")
    made: dict[int, torch.nn.Parameter] = {}
    named = dict(model.named_parameters(remove_duplicate=False))
    for key, old in named.items():
        info = infos.get(key)
        if info is not None and info.shape == tuple(old.shape) and id(old) not in made:
            made[id(old)] = torch.nn.Parameter(_mapped(checkpoint, info), requires_grad=False)
    for prefix, module in model.named_modules():
        for name, old in list(module._parameters.items()):  # noqa: SLF001 - ties must be kept
            if old is None:
                continue
            if id(old) not in made:
                key = f"{prefix}.{name}" if prefix else name
                info = infos.get(key)
                if info is not None:
                    raise UnsupportedError(
                        "the base's config and weights disagree",
                        where=f"{checkpoint.label}: {key}",
                        expected=list(old.shape),
                        found=list(info.shape),
                    )
                zeros = torch.zeros((), dtype=getattr(torch, fallback or "float32"))
                made[id(old)] = torch.nn.Parameter(zeros.expand(old.shape), requires_grad=False)
            module._parameters[name] = made[id(old)]  # noqa: SLF001
