"""Recipes of the development loop, read from YAML and checked before anything is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftt_hub.errors import FttError
from ftt_hub.extraction.choice import Coding, recipe_coding
from ftt_hub.registry.choose import is_folder
from ftt_hub.support.refs import parse_ref
from ftt_hub.support.yaml_lines import LinedYaml, read_yaml

SCHEMA = "recycle_recipe"
VARIANTS = ("iterative", "direct", "none")
_FILES = (".jsonl", ".ndjson", ".json", ".txt", ".text", ".md")
_NUMBERS = ("learning_rate", "warmup", "weight_decay", "epochs")


class RecycleError(FttError):
    """A recipe cannot be carried out, or its work does not fit what was done before."""


@dataclass(frozen=True)
class Data:
    """Where the training rows and the held-out rows come from.

    Attributes:
        train: A file (JSONL or plain text), a folder or a Hub dataset.
        validation: Likewise; ``None``: from `validation_split`, or no evaluation.
        config: Configuration of a Hub dataset.
        revision: Of a Hub dataset.
        split: Its training split.
        validation_split: Its held-out split.
        chat_template: Jinja file for bases whose tokenizer has none.
    """

    train: str | Path
    validation: str | Path | None = None
    config: str | None = None
    revision: str | None = None
    split: str = "train"
    validation_split: str | None = None
    chat_template: Path | None = None


@dataclass(frozen=True)
class Training:
    """How each model is fine-tuned; the defaults are the paper's (Lin et al. 2025, §6).

    Attributes:
        learning_rate: Peak learning rate of AdamW.
        schedule: Its course after the warm-up.
        warmup: Share of the steps in which it rises from zero.
        weight_decay: Of matrices; never of embeddings, norms and biases.
        batch_size: Rows of an optimizer step, over all devices.
        per_device_batch_size: Rows of a forward pass; default all of a device's share.
        sequence_length: Longer rows are cut.
        epochs: Passes over the rows, unless `max_steps` is given.
        max_steps: Optimizer steps.
        seed: Of the order of the rows.
        checkpoint_steps: Optimizer steps between checkpoints.
        logging_steps: Optimizer steps between log lines.
        report_to: Integrations of the Trainer, such as ``tensorboard`` or ``wandb``.
        gradient_checkpointing: Compute activations twice and store few.
        precision: Of the forward pass; weights and AdamW are always float32. ``auto``: bfloat16
            where the GPU has it.
        device: ``cuda`` refuses to run without a GPU.
        arguments: Any other field of TRL's SFTConfig.
    """

    learning_rate: float = 5e-6
    schedule: str = "linear"
    warmup: float = 0.03
    weight_decay: float = 0.0
    batch_size: int = 8
    per_device_batch_size: int | None = None
    sequence_length: int = 2048
    epochs: float = 1.0
    max_steps: int | None = None
    seed: int = 0
    checkpoint_steps: int = 500
    logging_steps: int = 10
    report_to: tuple[str, ...] = ()
    gradient_checkpointing: bool = False
    precision: str = "auto"
    device: str = "auto"
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Publishing:
    """Where finished adapters are published: version i.0.0 for base version i."""

    name: str
    registry: str | Path | None = None
    private: bool = False


@dataclass(frozen=True)
class Recipe:
    """The development loop over base versions.

    Attributes:
        bases: M_1 … M_n, folders or Hub references.
        data: Training and held-out rows.
        out: Folder of adapters, state and unfinished work.
        name: Of the whole; names the adapters.
        variants: Some of ``iterative``, ``direct`` and ``none``.
        training: Arguments of each fine-tuning.
        coding: How Δ is stored.
        evaluation: `tokens` and `window` of the held-out loss.
        publishing: Where finished adapters go beside `out`.
        languages: BCP-47 tags, for the manifest.
        datasets: Ids of the training data, for the manifest.
        license: Of the adapters.
        keep_models: Keep the fine-tuned checkpoints as well.
        where: The recipe's file.
    """

    bases: tuple[str | Path, ...]
    data: Data
    out: Path
    name: str = "recycled"
    variants: tuple[str, ...] = ("iterative",)
    training: Training = field(default_factory=Training)
    coding: Coding = field(default_factory=Coding)
    evaluation: dict[str, int] = field(default_factory=dict)
    publishing: Publishing | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    license: str | None = None
    keep_models: bool = False
    where: str | None = None


def read_recipe(path: str | Path) -> Recipe:
    """A recipe from a YAML file; relative paths in it are relative to its folder.

    Raises:
        RecycleError: Not readable, not YAML, or not as the schema says; with the line.
    """
    path = Path(path).expanduser()
    lined = read_yaml(path, SCHEMA, RecycleError)
    value = lined.value
    name = value.get("name", path.stem)
    variants = value.get("variant", "iterative")
    return Recipe(
        tuple(_model(text, lined, number) for number, text in enumerate(value["bases"])),
        _data(lined),
        path.parent / Path(value.get("out", name)).expanduser(),
        name,
        (variants,) if isinstance(variants, str) else tuple(variants),
        _training(lined),
        recipe_coding(lined, RecycleError),
        value.get("evaluation", {}),
        _publishing(lined),
        tuple(value.get("languages", ())),
        tuple(value.get("datasets", ())),
        value.get("license"),
        value.get("keep_models", False),
        str(path),
    )


def _model(text: str, lined: LinedYaml, number: int) -> str | Path:
    found = beside(lined.path, text)
    where = lined.place("bases", number)
    if isinstance(found, Path):
        if not found.is_dir():
            raise RecycleError("no such folder", where=where, found=text)
        return found
    try:
        parse_ref(found)
    except FttError as error:
        raise RecycleError(error.what, where=where, expected=error.expected, found=text) from error
    return found


def beside(recipe: Path, text: str) -> str | Path:
    """A reference as it stands, or a file or folder beside the recipe."""
    path = recipe.parent / Path(text).expanduser()
    return path if path.exists() or text.startswith((".", "/", "~")) else text


def _data(lined: LinedYaml) -> Data:
    given = dict(lined.value["dataset"])
    for key in ("train", "validation", "chat_template"):
        if key not in given:
            continue
        found = beside(lined.path, given[key])
        is_file = key == "chat_template" or str(found).endswith(_FILES)
        if not Path(found).exists() and (is_file or isinstance(found, Path)):
            raise RecycleError("no such file", where=lined.place("dataset", key), found=given[key])
        given[key] = Path(found) if is_file else found
    return Data(**given)


def _training(lined: LinedYaml) -> Training:
    given = dict(lined.value.get("training", {}))
    for key in _NUMBERS:
        if key in given:  # YAML 1.1 takes 5e-6 for a text
            given[key] = _number(given[key], lined.place("training", key))
    if "report_to" in given:
        given["report_to"] = tuple(given["report_to"])
    training = Training(**given)
    limit = training.per_device_batch_size
    if limit is not None and training.batch_size % limit:
        raise RecycleError(
            "batch_size is not a multiple of per_device_batch_size",
            where=lined.place("training", "per_device_batch_size"),
            found=f"{training.batch_size} and {limit}",
        )
    return training


def _number(value: float | str, where: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise RecycleError("not a number", where=where, found=value) from error
    if not math.isfinite(number):
        raise RecycleError("a number must be finite", where=where, found=value)
    return number


def _publishing(lined: LinedYaml) -> Publishing | None:
    given = lined.value.get("publish")
    if given is None:
        return None
    registry = given.get("registry")
    if registry is not None and is_folder(registry):
        registry = lined.path.parent / Path(registry).expanduser()
    ref = parse_ref(given["name"]) if "/" in given["name"] else None
    if ref is None or ref.name is None or ref.revision is not None:
        raise RecycleError(
            "not a repository name", where=lined.place("publish", "name"),
            expected="namespace/name", found=given["name"],
        )  # fmt: skip
    return Publishing(ref.name, registry, given.get("private", False))
