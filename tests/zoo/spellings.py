"""The variants: how source base, fine-tune and target are written, and what they load to."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from models import WORDS, tokenizer
from safetensors.torch import load_file, save_file
from transformers.core_model_loading import revert_weight_conversion

from zoo.architectures import MAPPINGS, Architecture, architectures
from zoo.truth import Family
from zoo.weights import Loaded, State, load, moved, randomize

ADDED = ["<added-1>", "<added-2>"]
LABELS = 5
PREFIXES = ("_orig_mod.", "module.")


class NotApplicableError(Exception):
    """The variant says nothing new of this architecture; the message says why."""


@dataclass(frozen=True)
class Case:
    """Three folders, and what `from_pretrained` loads of them."""

    source: Path
    tuned: Path
    target: Path
    family: Family
    added_tokens: bool = False
    labels: bool = False
    prefix: str = ""  # on every name of one side
    target_loads: bool = True  # transformers reads no names with a prefix


@dataclass
class Trio:
    """The three models of an architecture, and their checkpoints as transformers writes them."""

    architecture: Architecture
    root: Path
    source: Any
    tuned: Any
    target: Any
    plain: Case = field(init=False)

    @property
    def loader(self) -> Any:
        """The auto class."""
        return self.architecture.mapping.loader

    def folder(self, name: str) -> Path:
        """A path for a checkpoint."""
        return self.root / name

    def save(self, model: Any, name: str, words: Iterable[str] = WORDS, **options: Any) -> Path:
        """Write a checkpoint as transformers does."""
        folder = self.folder(name)
        model.save_pretrained(folder, **options)
        return self.with_tokenizer(folder, words)

    def write(self, model: Any, state: State, name: str, *, pickled: bool = False) -> Path:
        """Write a checkpoint with the given tensors, each in a storage of its own."""
        folder = self.folder(name)
        folder.mkdir(parents=True)
        model.config.save_pretrained(folder)
        tensors = {key: value.clone().contiguous() for key, value in state.items()}
        if pickled:
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return self.with_tokenizer(folder, WORDS)

    def with_tokenizer(self, folder: Path, words: Iterable[str]) -> Path:
        """Add a tokenizer to a folder, if models of this kind have one."""
        if self.architecture.mapping.has_text:
            for name, data in tokenizer(list(words)).items():
                (folder / name).write_bytes(data)
        return folder


def make_trio(architecture: Architecture, root: Path) -> Trio:
    """Build source base, fine-tune (near it) and target (drifted), and write them plainly."""
    source = architecture.model()
    randomize(source)
    source.config.architectures = [type(source).__name__]
    tuned, target = copy.deepcopy(source), copy.deepcopy(source)
    moved(tuned, 2, 0.01)
    moved(target, 3, 0.05)
    trio = Trio(architecture, root, source, tuned, target)
    folders = [trio.save(m, n) for m, n in ((source, "s"), (tuned, "f"), (target, "t"))]
    trio.plain = Case(*folders, family=_family(trio, folders))
    return trio


def _family(trio: Trio, folders: list[Path]) -> Family:
    read = [load(trio.loader, folder) for folder in folders]
    models = (trio.source, trio.tuned, trio.target)
    pairs = list(zip(models, read, strict=True))
    return Family(*read, ignored=frozenset().union(*(_unlike(m.state_dict(), r) for m, r in pairs)))


def _unlike(state: State, read: Loaded) -> set[str]:
    return {
        name
        for name, tensor in read.state.items()
        if name not in state
        or tensor.shape != state[name].shape
        or not torch.equal(tensor.double(), state[name].double())
    }


def _header(folder: Path) -> dict[str, torch.Size]:
    return {n: t.shape for f in folder.glob("*.safetensors") for n, t in load_file(f).items()}


def same(trio: Trio) -> Case:
    """All three as `save_pretrained` writes them."""
    return trio.plain


def tied_copies(trio: Trio) -> Case:
    """Base (.bin) and target hold every tied copy, the fine-tune does not."""
    shared = {}
    for name, tensor in trio.source.state_dict().items():
        shared.setdefault((tensor.data_ptr(), tensor.shape), []).append(name)
    if all(len(names) == 1 or key[0] == 0 for key, names in shared.items()):
        raise NotApplicableError("no tied tensors")
    whole = [revert_weight_conversion(m, dict(m.state_dict())) for m in (trio.source, trio.target)]
    source = trio.write(trio.source, whole[0], "tied-s", pickled=True)
    return replace(trio.plain, source=source, target=trio.write(trio.target, whole[1], "tied-t"))


def _run_time(trio: Trio, which: dict[str, Any]) -> dict[str, Path]:
    folders = {}
    for role, model in which.items():
        folder = trio.save(model, f"names-{role}", save_original_format=False)
        if _header(folder) == _header(getattr(trio.plain, role)):
            raise NotApplicableError("run-time names are the original ones")
        if _unlike(model.state_dict(), load(trio.loader, folder)) - trio.plain.family.ignored:
            raise NotApplicableError("transformers does not read its own run-time names")
        folders[role] = folder
    return folders


def names_of_tuned(trio: Trio) -> Case:
    """The fine-tune under run-time names (``save_original_format=False``)."""
    return replace(trio.plain, **_run_time(trio, {"tuned": trio.tuned}))


def names_of_bases(trio: Trio) -> Case:
    """Base and target under run-time names, the fine-tune in the original format."""
    return replace(trio.plain, **_run_time(trio, {"source": trio.source, "target": trio.target}))


def two_tokens(trio: Trio) -> Case:
    """The fine-tune has two more tokens."""
    if not trio.architecture.mapping.has_text:
        raise NotApplicableError("no tokenizer")
    tuned = copy.deepcopy(trio.tuned)
    if tuned.get_input_embeddings().weight.shape[0] != len(WORDS):
        raise NotApplicableError("the vocabulary has another size than the tokenizer")
    tuned.resize_token_embeddings(len(WORDS) + len(ADDED), mean_resizing=False)
    folder = trio.save(tuned, "tokens-f", [*WORDS, *ADDED])
    read = load(trio.loader, folder)
    if _unlike(tuned.state_dict(), read) - trio.plain.family.ignored:
        raise NotApplicableError("transformers does not read the resized model back")
    family = replace(trio.plain.family, tuned=read)
    return replace(trio.plain, tuned=folder, family=family, added_tokens=True)


def new_labels(trio: Trio) -> Case:
    """The fine-tune has five labels with names, base and target two."""
    if not trio.architecture.mapping.has_labels:
        raise NotApplicableError("no labels")
    config = copy.deepcopy(trio.tuned.config)
    config.id2label = {i: f"topic {i}" for i in range(LABELS)}
    config.label2id = {name: i for i, name in config.id2label.items()}
    tuned = trio.loader.from_config(config).eval()
    old, new = trio.tuned.state_dict(), tuned.state_dict()
    randomize(tuned)
    _copy_state(trio.tuned, tuned)
    if all(old[n].shape == new[n].shape for n in old if n in new):
        raise NotApplicableError("no tensor depends on the labels")
    tuned.config.architectures = [type(tuned).__name__]
    folder = trio.save(tuned, "labels-f")
    family = replace(trio.plain.family, tuned=load(trio.loader, folder))
    return replace(trio.plain, tuned=folder, family=family, labels=True)


def headless(trio: Trio) -> Case:
    """Base and target without the head and its prefix, the fine-tune with it."""
    if not (trio.architecture.mapping.has_labels or trio.architecture.mapping.key == "ctc"):
        raise NotApplicableError("the head is the language model's")
    if trio.source.base_model is trio.source:
        raise NotApplicableError("no base model inside")
    bases = [m.base_model for m in (trio.source, trio.target)]
    folders = [trio.save(m, n) for m, n in zip(bases, ("base-s", "base-t"), strict=True)]
    read = [load(trio.loader, folder) for folder in folders]
    family = replace(trio.plain.family, source=read[0], target=read[1])
    return replace(trio.plain, source=folders[0], target=folders[1], family=family, labels=True)


def other_head(trio: Trio) -> Case:
    """Base and target are language models, the fine-tune a classifier made of one."""
    kind = trio.architecture
    names = [a.name for a in architectures()]
    keys = [k for k in ("masked", "causal") if f"{k}/{kind.model_type}" in names]
    if kind.mapping.key != "classification" or not keys:
        raise NotApplicableError("no classifier made of a language model")
    loader = next(m.loader for m in MAPPINGS if m.key == keys[0])
    folders = []
    for role, classifier in (("lm-s", trio.source), ("lm-t", trio.target)):
        model = loader.from_config(copy.deepcopy(classifier.config))
        randomize(model)
        _copy_state(classifier, model)
        model.config.architectures = [type(model).__name__]
        folders.append(trio.save(model, role))
    read = [load(trio.loader, folder) for folder in folders]
    family = replace(trio.plain.family, source=read[0], target=read[1])
    return replace(trio.plain, source=folders[0], target=folders[1], family=family, labels=True)


def _copy_state(source: Any, model: Any) -> None:
    """Copy the values of equal name and shape."""
    state = source.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in state and state[name].shape == tensor.shape:
                tensor.copy_(state[name])


def prefixed(trio: Trio) -> Case:
    """A wrapper's prefix on every name of one side; which side and prefix depends on the name."""
    number = zlib.crc32(trio.architecture.name.encode())
    role, prefix = ("source", "tuned", "target")[number % 3], PREFIXES[number // 3 % 2]
    plain = getattr(trio.plain, role)
    folder = trio.folder(f"prefix-{role}")
    folder.mkdir()
    for file in plain.iterdir():
        if file.suffix == ".safetensors":
            state = {prefix + name: tensor for name, tensor in load_file(file).items()}
            save_file(state, folder / file.name, {"format": "pt"})
        else:
            (folder / file.name).write_bytes(file.read_bytes())
    changes: dict[str, Any] = {role: folder}
    return replace(trio.plain, **changes, prefix=prefix, target_loads=role != "target")


# Each raises NotApplicableError, or what transformers raises: no variant calls the product.
VARIANTS: dict[str, Callable[[Trio], Case]] = {
    "same": same,
    "tied": tied_copies,
    "names-tuned": names_of_tuned,
    "names-base": names_of_bases,
    "tokens": two_tokens,
    "labels": new_labels,
    "headless": headless,
    "other-head": other_head,
    "prefix": prefixed,
}


def unprefixed(folder: Path, prefix: str) -> None:
    """Take the prefix off every name of a checkpoint, in place."""
    for file in folder.glob("*.safetensors"):
        state = {name.removeprefix(prefix): t for name, t in load_file(file).items()}
        save_file(state, file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.exists():
        value = json.loads(index.read_text())
        value["weight_map"] = {k.removeprefix(prefix): v for k, v in value["weight_map"].items()}
        index.write_text(json.dumps(value))
