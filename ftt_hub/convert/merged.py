"""A base with a PEFT adapter merged into it, as a checkpoint that is made while it is read.

PEFT's own layers do the arithmetic, one module at a time: its `merge`, on the module's real
weights. So a tensor read here is the one `merge_and_unload()` gives, bit for bit, and the model is
never whole in memory.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.codecs.factored import PlainFactors
from ftt_hub.convert.injection import HEADS, first_line, inject
from ftt_hub.convert.peft_factors import factors_of, has_factors
from ftt_hub.convert.peft_folder import PeftFolder
from ftt_hub.errors import CheckpointError, NonFiniteError, UnsupportedError
from ftt_hub.support.warn import warn_caller
from ftt_hub.tensors.dtypes import BY_TORCH_NAME, Bits, DType
from ftt_hub.tensors.header import TensorInfo

if TYPE_CHECKING:
    from torch import nn

_KEPT = 4
"""Merged modules that are kept, so that the blocks of a tensor merge it once."""
_PREFIX = "base_model.model."

State = dict[str, torch.Tensor]


class MergedModel:
    """The fine-tuned model that a PEFT adapter stands for.

    Attributes:
        folder: The adapter's folder.
        label: How the adapter is called in messages.
        tensors: Checkpoint name → dtype and shape, as in the base.
        touched: Checkpoint names of the tensors that the adapter may change.
        vocabulary_rows: Rows of the embeddings where the adapter has another number of them than
            the base, for added tokens.

    Args:
        base: The source base, open.
        adapter: The PEFT adapter.

    Raises:
        CheckpointError: PEFT cannot load it onto this base.
        UnsupportedError: It changes weights that the checkpoint stores in other pieces.
    """

    def __init__(self, base: Checkpoint, adapter: PeftFolder) -> None:
        self.folder, self.label = adapter.folder, str(adapter.folder)
        self._base, self._adapter = base, adapter
        self._lock = threading.RLock()
        self._done: OrderedDict[str, State] = OrderedDict()
        injected = inject(base, adapter)
        self._keys, self.vocabulary_rows = injected.keys, injected.rows
        self._model: nn.Module = injected.model.get_base_model()
        self._owner: dict[str, tuple[str, Any]] = {}
        self._plain: State = {}
        self._find()
        self.tensors, self.touched = self._describe()

    def _find(self) -> None:
        """Which module, or plain parameter, each changed parameter comes from."""
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        inside: tuple[str, ...] = ()
        given = {n.removeprefix(_PREFIX) for n in self._adapter.tensors}
        for key, module in self._model.named_modules(remove_duplicate=False):
            if inside and key.startswith(inside):
                continue
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
                inside = (*inside, f"{key}.")
                for name, _ in _result(module).named_parameters():
                    self._owner[f"{key}.{name}"] = (str(key), module)
                continue
            for name, value in module.named_parameters(recurse=False):
                full = f"{key}.{name}" if key else name
                if full in given:
                    self._plain[full] = value.data

    def _describe(self) -> tuple[Mapping[str, TensorInfo], frozenset[str]]:
        names = {key: name for name, key in self._keys.items()}
        tensors = dict(self._base.tensors)
        touched = set()
        aliases = self._aliases(names)
        for key in [*self._owner, *self._plain]:
            if key in aliases:
                continue
            name = names.get(key, key)
            self._keys[name] = key
            touched.add(name)
            tensors[name] = self._info(name, key)
        for key, name in aliases.items():
            self._follow(key, name, touched)
        return dict(sorted(tensors.items())), frozenset(touched)

    def _aliases(self, names: Mapping[str, str]) -> dict[str, str]:
        """Parameters that are tied to another one, and the checkpoint name of that one."""
        tied = getattr(self._model, "all_tied_weights_keys", None) or {}
        return {a: names[key] for a, key in tied.items() if a not in names and key in names}

    def _follow(self, alias: str, name: str, touched: set[str]) -> None:
        """Keep tied weights tied: both change alike, or the adapter is refused.

        Raises:
            UnsupportedError: After merging the two would differ.
        """
        mine, theirs = self._owner.get(alias), self._owner.get(self._keys[name])
        if mine is None and theirs is None:
            return
        if mine is not None and theirs is not None:
            ours = self._merged(*mine)[alias.removeprefix(mine[0] + ".")]
            other = self._merged(*theirs)[self._keys[name].removeprefix(theirs[0] + ".")]
            if torch.equal(ours.to(other.dtype), other):
                return
        elif _writes_in_place(mine or theirs):
            if mine is not None:
                self._keys[name] = alias
                touched.add(name)
            warn_caller(
                f"{name} and {alias} are tied: merged, the change of one is the change of both"
            )
            return
        raise UnsupportedError(
            f"the adapter unties {alias} from {name}",
            where=self.label,
            expected="tied weights that stay equal",
            hint="Untie the base first: save it with tie_word_embeddings=false.",
        )

    def _info(self, name: str, key: str) -> TensorInfo:
        held = self._base.tensors.get(name)
        value = self._plain.get(key)
        if value is None:
            owner = _result(self._owner[key][1])
            value = owner.get_parameter(key.removeprefix(self._owner[key][0] + "."))
        if held is not None and tuple(value.shape) == held.shape:
            return held
        if held is not None and self.vocabulary_rows is not None:
            return TensorInfo(name, held.dtype, tuple(value.shape), 0, _nbytes(value, held.dtype))
        if held is None and not key.endswith(HEADS):
            raise UnsupportedError(
                "the adapter changes weights that this checkpoint stores in other pieces",
                where=f"{self._base.label}: {key}",
                expected="a tensor of that name",
                hint="Fused experts and fused projections: merge with PEFT, save, then extract.",
            )
        dtype = BY_TORCH_NAME[str(value.dtype).removeprefix("torch.")]
        nbytes = value.numel() * value.element_size()
        return TensorInfo(name, dtype, tuple(value.shape), 0, nbytes)

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of a run of elements of the merged model."""
        if name not in self.touched:
            return self._base.read_bits(name, start, count)
        flat = self._value(name).reshape(-1)[start : start + count]
        bits: Bits = flat.view(torch.uint8).numpy().view(self.tensors[name].dtype.numpy).copy()
        return bits

    def _value(self, name: str) -> torch.Tensor:
        key = self._keys[name]
        if key in self._plain:
            value = self._plain[key]
        else:
            prefix, module = self._owner[key]
            value = self._merged(prefix, module)[key.removeprefix(prefix + ".")]
        wanted = getattr(torch, self.tensors[name].dtype.torch_name or "")
        if tuple(value.shape) != self.tensors[name].shape:
            raise CheckpointError("merging changed the shape", where=name)
        return value.to(wanted).contiguous()

    @property
    def has_factors(self) -> bool:
        """Whether the change of some weight is a product of two matrices."""
        return any(has_factors(module) for _, module in self._owner.values())

    def factors(self, name: str) -> PlainFactors | None:
        """The factors of a weight's change, ``None`` where it is no such product."""
        prefix, module = self._owner.get(self._keys.get(name, name), ("", None))
        if module is None or self._keys.get(name, name) != f"{prefix}.weight":
            return None
        with self._lock:
            return factors_of(module)

    def _merged(self, prefix: str, module: nn.Module) -> State:
        """The parameters of one module after PEFT has merged it; the module is put back."""
        with self._lock:
            if prefix not in self._done:
                while len(self._done) >= _KEPT:
                    self._done.popitem(last=False)
                self._done[prefix] = _merge(prefix, module)
            self._done.move_to_end(prefix)
            return self._done[prefix]

    def close(self) -> None:
        """Let go of the model; the base is the caller's."""
        self._done.clear()


def _nbytes(value: torch.Tensor, dtype: DType) -> int:
    return value.numel() * dtype.itemsize


def _writes_in_place(owner: tuple[str, Any] | None) -> bool:
    """Whether merging writes into the base's own parameter; saved copies do not."""
    from peft.utils.other import ModulesToSaveWrapper

    return owner is not None and not isinstance(owner[1], ModulesToSaveWrapper)


def _result(module: Any) -> nn.Module:
    """The module that stays when PEFT has unloaded this one."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    if isinstance(module, ModulesToSaveWrapper):
        made = (
            module.modules_to_save[str(module.active_adapter)] if module.active_adapters else None
        )
        made = module.original_module if made is None else made
        return made.get_base_layer() if isinstance(made, BaseTunerLayer) else made
    if isinstance(module, BaseTunerLayer):
        return module.get_base_layer()
    return _result(module.token_adapter)


@torch.no_grad()
def _merge(where: str, module: Any) -> State:
    base = _result(module)
    before = {name: parameter.data for name, parameter in base.named_parameters()}
    for name, parameter in base.named_parameters():
        parameter.data = before[name].clone()  # merging writes in place
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if hasattr(module, "unload_and_optionally_merge_module"):
                base = module.unload_and_optionally_merge_module(
                    merge=True, safe_merge=False, adapter_names=None
                )
            else:
                module.merge(safe_merge=False)
                base = module.get_base_layer()
        after = {name: parameter.data for name, parameter in base.named_parameters()}
    except ValueError as error:
        kind = NonFiniteError if "NaN" in str(error) else CheckpointError
        raise kind(f"PEFT cannot merge this module: {first_line(error)}", where=where) from error
    except (RuntimeError, TypeError, KeyError) as error:
        raise UnsupportedError(
            f"PEFT cannot merge this module: {first_line(error)}", where=where
        ) from error
    for name, parameter in base.named_parameters():
        if name in before:
            parameter.data = before[name]
    for held in (module, getattr(module, "token_adapter", None)):
        merged = getattr(held, "merged_adapters", None)
        if isinstance(merged, list):
            merged.clear()
    if not all(bool(torch.isfinite(t).all()) for t in after.values() if t.is_floating_point()):
        raise NonFiniteError("merging gives NaN or infinity", where=where)
    return {name: value.detach().contiguous() for name, value in after.items()}
