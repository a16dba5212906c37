"""Recipes of the development loop, read from YAML and checked before anything is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftt_hub.errors import FttError, RecycleError
from ftt_hub.extraction.choice import Coding
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import parse_ref
from ftt_hub.support.yaml_lines import LinedYaml, read_yaml

SCHEMA = "recycle_recipe"
VARIANTS = ("iterative", "direct", "none")
_FILES = (".jsonl", ".ndjson", ".json", ".txt", ".text", ".md")
_NUMBERS = ("learning_rate", "warmup", "weight_decay", "epochs")


@dataclass(frozen=True)
class Data:
    """Where the training rows and the held-out rows come from.

    Attributes:
        train: A file (JSONL or plain text), a folder or a Hub dataset.
        validation: The same for held-out rows; ``None``: `validation_split`, or no evaluation.
        config: Configuration of a Hub dataset.
        revision: Revision of a Hub dataset.
        split: Name of the training split.
        validation_split: Name of the held-out split.
        chat_template: Jinja file for bases whose tokenizer has none.
    """

    train: PathLike
    validation: PathLike | None = None
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
        schedule: Learning-rate schedule after the warm-up.
        warmup: Share of the steps in which the learning rate rises from zero.
        weight_decay: Weight decay of matrices; embeddings, norms and biases have none.
        batch_size: Rows per optimizer step, over all devices.
        per_device_batch_size: Rows per forward pass; default all of a device's share.
        sequence_length: Longest row in tokens; longer rows are cut.
        epochs: Passes over the rows, unless `max_steps` is given.
        max_steps: Number of optimizer steps.
        seed: Seed for the order of the rows.
        checkpoint_steps: Optimizer steps between checkpoints.
        logging_steps: Optimizer steps between log lines.
        report_to: Integrations of the Trainer, such as ``tensorboard`` or ``wandb``.
        gradient_checkpointing: Compute activations twice and store few of them.
        precision: Precision of the forward pass; weights and AdamW are always float32. ``auto``:
            bfloat16 where the GPU supports it.
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
    registry: PathLike | None = None
    private: bool = False


@dataclass(frozen=True)
class RecycleRecipe:
    """The development loop over base versions.

    Attributes:
        bases: M_1 … M_n, folders or Hub references.
        data: Training and held-out rows.
        out: Folder of adapters, state and unfinished work.
        name: Name of the run, with which the names of its adapters begin.
        variants: Some of ``iterative``, ``direct`` and ``none``.
        training: How each model is fine-tuned.
        coding: How Δ is stored.
        evaluation: `tokens` and `window` of the held-out loss.
        publishing: Registry in which finished adapters are also published.
        languages: BCP-47 tags, for the manifest.
        datasets: Ids of the training data, for the manifest.
        license: Licence of the adapters.
        keep_models: Keep the fine-tuned checkpoints as well.
        where: The recipe's file.
    """

    bases: tuple[PathLike, ...]
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


def read_recipe(path: PathLike) -> RecycleRecipe:
    """A recipe from a YAML file; relative paths in it are relative to its folder.

    Raises:
        RecycleError: Not readable, not YAML, or not as the schema says; with the line.
    """
    path = Path(path).expanduser()
    lined = read_yaml(path, SCHEMA, RecycleError)
    value = lined.value
    name = value.get("name", path.stem)
    codec = dict(value.get("codec", {"id": "exact"}))
    variants = value.get("variant", "iterative")
    return RecycleRecipe(
        tuple(_model(text, lined, number) for number, text in enumerate(value["bases"])),
        _data(lined),
        path.parent / Path(value.get("out", name)).expanduser(),
        name,
        (variants,) if isinstance(variants, str) else tuple(variants),
        _training(lined),
        Coding(codec.pop("id"), **codec),
        value.get("evaluation", {}),
        _publishing(lined),
        tuple(value.get("languages", ())),
        tuple(value.get("datasets", ())),
        value.get("license"),
        value.get("keep_models", False),
        str(path),
    )


def _model(text: str, lined: LinedYaml, number: int) -> PathLike:
    model = beside(lined.path, text)
    line = lined.place("bases", number)
    if isinstance(model, Path):
        if not model.is_dir():
            raise RecycleError("no such folder", where=line, found=text)
        return model
    try:
        parse_ref(model)
    except FttError as error:
        raise RecycleError(error.what, where=line, expected=error.expected, found=text) from error
    return model


def beside(recipe: Path, text: str) -> PathLike:
    """A reference as it stands, or a file or folder beside the recipe."""
    path = recipe.parent / Path(text).expanduser()
    return path if path.exists() or text.startswith((".", "/", "~")) else text


def _data(lined: LinedYaml) -> Data:
    given = dict(lined.value["dataset"])
    for key in ("train", "validation", "chat_template"):
        if key not in given:
            continue
        source = beside(lined.path, given[key])
        is_file = key == "chat_template" or str(source).endswith(_FILES)
        if not Path(source).exists() and (is_file or isinstance(source, Path)):
            raise RecycleError("no such file", where=lined.place("dataset", key), found=given[key])
        given[key] = Path(source) if is_file else source
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
    if registry not in (None, "hf"):
        registry = lined.path.parent / Path(registry).expanduser()
    ref = parse_ref(given["name"]) if "/" in given["name"] else None
    if ref is None or ref.name is None or ref.revision is not None:
        raise RecycleError(
            "not a repository name",
            where=lined.place("publish", "name"),
            expected="namespace/name",
            found=given["name"],
        )
    return Publishing(ref.name, registry, given.get("private", False))
