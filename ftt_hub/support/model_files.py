"""Which file of a model folder is what, told by its name; docs/files.md states the same rules.

A model folder holds weights, companions (the small files that a model needs to load: tokenizer,
processors, templates, code, licences), and files that no loader reads (training state, other
formats, pictures, the card). Companions are what is left when the others are taken away, so that a
tokenizer or processor with file names of its own needs no entry here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PRECEDENCE = (SINGLE, INDEX, PICKLED, PICKLED_INDEX)
"""The order in which transformers looks for weights (`_get_resolved_checkpoint_files`)."""

TEMPLATE, LEGACY_TEMPLATE = "chat_template.jinja", "chat_template.json"
TEMPLATE_FOLDER = "additional_chat_templates"
TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_COMPANION_BYTES = 64 << 20
"""No companion is larger; vocabularies have some megabytes."""
MAX_COMPANIONS = 512

_WEIGHTS = re.compile(
    r"\.(bin|ckpt|data|engine|ggml|gguf|h5|index|joblib|keras|mar|mlmodel|mlpackage|msgpack|nemo|"
    r"np[yz]|onnx|onnx_data|ot|pb|pdparams|pickle|pkl|pte?|pt2|pth|safetensors|tflite|torchscript)$"
    r"|\.index\.json$",
    re.IGNORECASE,
)
_ARCHIVE = re.compile(r"\.(7z|bz2|gz|rar|tar|tgz|whl|xz|zip|zst)$", re.IGNORECASE)
_DOCUMENT = re.compile(
    r"\.(avi|bib|csv|flac|gif|html|ipynb|jpe?g|log|md|mov|mp[34]|ogg|parquet|pdf|png|rst|sh|svg|tsv|"
    r"wav|webm|webp)$",
    re.IGNORECASE,
)
_LICENCES = re.compile(r"^(licen[cs]e|notice|use[-_]policy)", re.IGNORECASE)
_LEFTOVERS = re.compile(
    r"^(optimizer|scheduler|scaler|rng_state|training_args|trainer_state|random_states|latest$|"
    r"zero_to_fp32|events\.out\.|requirements.*\.txt$|readme|(all|train|eval|test|predict)_results|"
    r"runs?$|checkpoint-|global_step|adapter_|model_index\.json$|dockerfile|makefile)",
    re.IGNORECASE,
)
_VOCABULARY = re.compile(r"\.(bpe|codes|model|spm|tekken|tiktoken|tokenizer|vocab)$")
_TOKENIZER = re.compile(r"^(tokenizer|vocab|merges|special_tokens_map|added_tokens|tekken)")
_MODULE_FOLDER = re.compile(r"^\d+_[A-Za-z]+$")
"""sentence-transformers keeps each module behind the transformer in such a folder."""


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def is_weights(path: str) -> bool:
    """Whether a file holds weights, in any library's format, or the index of such files."""
    return _WEIGHTS.search(path) is not None


def is_code(path: str) -> bool:
    """Whether a file is Python code; such files are copied and never run here."""
    return _suffix(path) == ".py"


def is_licence(path: str) -> bool:
    """Whether a file states terms of use."""
    return _LICENCES.match(path) is not None


def is_companion(path: str) -> bool:
    """Whether a model needs a file beside its config and weights, told by its path.

    Of subfolders these count: chat templates, code for `custom_generate`, and the modules of
    sentence-transformers.
    """
    parts = PurePosixPath(path).parts
    if not parts or path == CONFIG or any(part.startswith(".") or ".." in part for part in parts):
        return False
    name = parts[-1]
    if len(parts) > 1:
        return len(parts) == 2 and _in_needed_folder(parts[0], name)
    if is_licence(name):
        return not (_WEIGHTS.search(name) or _ARCHIVE.search(name))
    others = (_WEIGHTS, _ARCHIVE, _DOCUMENT)
    return not any(kind.search(name) for kind in others) and _LEFTOVERS.match(name) is None


def _in_needed_folder(folder: str, name: str) -> bool:
    if folder == TEMPLATE_FOLDER:
        return _suffix(name) == ".jinja"
    if folder == "custom_generate":
        return is_code(name) or name == "requirements.txt"
    return _MODULE_FOLDER.match(folder) is not None and _suffix(name) in (".json", ".safetensors")


def is_template(path: str) -> bool:
    """Whether a file is a chat template, in any of the forms that are files of their own."""
    return path in (TEMPLATE, LEGACY_TEMPLATE) or path.startswith(f"{TEMPLATE_FOLDER}/")


def is_processor(path: str) -> bool:
    """Whether a file configures a processor, feature extractor or image or video processor."""
    return path.endswith("processor_config.json") or path == "audio_tokenizer_config.json"


def is_tokenizer(path: str) -> bool:
    """Whether a file is certain to belong to the tokenizer, by its suffix or first letters."""
    if not may_be_tokenizer(path):
        return False
    return _TOKENIZER.match(path) is not None or _VOCABULARY.search(path) is not None


def may_be_tokenizer(path: str) -> bool:
    """Whether a file can belong to the tokenizer, whatever its class calls it.

    That is a vocabulary in text or binary form, or a JSON file that is neither a template nor a
    config.
    """
    others = (is_licence, is_template, is_code, is_processor)
    if "/" in path or not is_companion(path) or any(kind(path) for kind in others):
        return False
    if _TOKENIZER.match(path):
        return True
    if _suffix(path) == ".json":
        return "config" not in path and path != "modules.json"  # of sentence-transformers
    return _suffix(path) == ".txt" or _VOCABULARY.search(path) is not None


def travels(path: str) -> bool:
    """Whether a file may travel with Δ: text and vocabularies, neither code nor config nor weights.

    Code travels only where a tokenizer or processor that travels names it.
    """
    kinds = (may_be_tokenizer, is_template, is_processor)
    return path == GENERATION_CONFIG or any(kind(path) for kind in kinds)


def chosen_weights(files: Collection[str], explicit: object = None) -> str | None:
    """The file of weights, or the index, that transformers loads; ``None`` when there is none.

    Args:
        files: Names of what the folder holds.
        explicit: `transformers_weights` of the config, which precedes all others.
    """
    if isinstance(explicit, str) and explicit:
        return explicit if explicit in files else None
    return next((name for name in PRECEDENCE if name in files), None)
