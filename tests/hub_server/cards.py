"""Model cards: the YAML front matter of `README.md`, and the tags that the Hub derives from it."""

import re
from collections.abc import Collection, Mapping

from yaml import CSafeLoader, YAMLError, load

_FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_BOOL = "tag:yaml.org,2002:bool"


class _Loader(CSafeLoader):
    """YAML as the Hub's JavaScript reads it: `no` is Norwegian, not False."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it without ClassVar
        first: [(tag, regexp) for tag, regexp in resolvers if tag != _BOOL or first in "tTfF"]
        for first, resolvers in CSafeLoader.yaml_implicit_resolvers.items()
    }


def parse(readme: str) -> dict[str, object] | None:
    """Return the front matter of a card, None if there is none or it is no mapping.

    Raises:
        YAMLError: if the block is there but is not YAML.
    """
    match = _FRONT_MATTER.match(readme)
    data = load(match.group(1), Loader=_Loader) if match else None
    return data if isinstance(data, dict) else None


def read(readme: bytes) -> dict[str, object]:
    """Return the front matter, empty where a card has none that can be read."""
    try:
        return parse(readme.decode(errors="replace")) or {}
    except YAMLError:
        return {}


def library(card: Mapping[str, object], files: Collection[str]) -> str | None:
    """Return the library: as declared, else guessed from the files."""
    declared = card.get("library_name")
    if isinstance(declared, str):
        return declared
    if "adapter_config.json" in files:
        return "peft"
    return "transformers" if "config.json" in files else None


def relation(card: Mapping[str, object], files: Collection[str]) -> str | None:
    """Return how the model relates to its base models, None if it names none."""
    bases = strings(card.get("base_model"))
    declared = card.get("base_model_relation")
    if not bases or isinstance(declared, str):
        return declared if bases and isinstance(declared, str) else None
    if "adapter_config.json" in files:
        return "adapter"
    return "merge" if len(bases) > 1 else "finetune"


def tags(card: Mapping[str, object], files: Collection[str]) -> list[str]:
    """Return the tags of a model, without repetitions, in the Hub's order."""
    found = [library(card, files)]
    found += ["safetensors"] if any(name.endswith(".safetensors") for name in files) else []
    found += strings(card.get("pipeline_tag"))
    found += strings(card.get("tags"))
    found += [f"dataset:{name}" for name in strings(card.get("datasets"))]
    found += strings(card.get("language"))
    bases = strings(card.get("base_model"))
    found += [f"base_model:{base}" for base in bases]
    found += [f"base_model:{relation(card, files)}:{base}" for base in bases]
    found += [f"license:{name}" for name in strings(card.get("license"))]
    return [tag for tag in dict.fromkeys([*found, "region:us"]) if tag]


def strings(value: object) -> list[str]:
    """Return a field that may be one string or a list of them as a list."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def check(readme: str) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings that the Hub's `validate-yaml` finds in a card."""
    try:
        card = parse(readme)
    except YAMLError as error:
        return [f"YAML parse error: {error}"], []
    if not card:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = [
        f'"{field}" must be a string or a list of strings'
        for field in ("language", "tags", "datasets", "base_model")
        if card.get(field) is not None and not _is_strings(card[field])
    ]
    errors += [
        '"language" must only contain lowercase characters'
        for code in strings(card.get("language"))
        if code != code.lower()
    ]
    errors += [
        f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.'
        for base in strings(card.get("base_model"))
        if not _REPO_ID.fullmatch(base)
    ]
    return errors, []


def _is_strings(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return len(strings(value)) == len(items)
