"""YAML that remembers its lines, checked against a schema: the message names the line."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import FttError
from ftt_hub.support.json_schema import Violation, violation

if TYPE_CHECKING:
    import yaml

MAX_YAML_BYTES = 1 << 20
_JSON_TYPES = (str, bool, int, float, dict, list, type(None))


@dataclass(frozen=True)
class LinedYaml:
    """A YAML mapping and where its parts stand.

    Attributes:
        path: The file.
        value: Its value.
        lines: Keys and numbers on the way to a part → its line, from 1.
    """

    path: Path
    value: dict[str, Any]
    lines: dict[tuple[object, ...], int]

    def place(self, *keys: object) -> str:
        """File and line of a part, or of the nearest one around it."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}, line {self.lines.get(keys, 1)}"


@functools.cache
def _loader_class() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader with the numbers of YAML 1.2, where 5e-1 needs no dot."""
    import yaml

    class Loader(yaml.SafeLoader):
        """As its base, for numbers such as 5e-1 too."""

    number = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def read_yaml(path: Path, schema: str, error_type: type[FttError]) -> LinedYaml:
    """Read a YAML file that one of our schemas describes.

    Raises:
        FttError: An error of the type given, with the line: not readable, not YAML, a key twice,
            or not as the schema says.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise error_type("cannot be read", where=path, found=error.strerror) from error
    if len(data) > MAX_YAML_BYTES:
        raise error_type("too large", where=path, expected=f"≤ {MAX_YAML_BYTES} bytes")
    try:
        loader = _loader_class()(data)
        node = loader.get_single_node()
        lines: dict[tuple[object, ...], int] = {}
        if node is not None:
            _note_lines(node, (), lines, path, error_type)
        value = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}, line {mark.line + 1}"
        what = getattr(error, "problem", None) or str(error)
        raise error_type(f"not valid YAML ({str(what)[:120]})", where=where) from error
    if not isinstance(value, dict):
        raise error_type("is not a YAML mapping", where=path)
    lined = LinedYaml(path, value, lines)
    _require_json(lined, value, (), error_type)
    check_value(value, schema, error_type, lined.place)
    return lined


def _require_json(
    lined: LinedYaml, value: object, keys: tuple[object, ...], error_type: type[FttError]
) -> None:
    """Refuse what YAML has and JSON does not: NaN, infinity, dates, keys that are not text."""
    if isinstance(value, float) and not math.isfinite(value):
        raise error_type("a number must be finite", where=lined.place(*keys), found=value)
    if not isinstance(value, _JSON_TYPES):
        raise error_type(
            f"a {type(value).__name__} cannot be used here",
            where=lined.place(*keys),
            found=str(value)[:80],
            hint="Put it in quotes.",
        )
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(value, dict) and not isinstance(key, str):
            raise error_type(f"unknown key {str(key)[:80]!r}", where=lined.place(*keys))
        _require_json(lined, item, (*keys, key), error_type)


def _note_lines(
    node: yaml.Node,
    keys: tuple[object, ...],
    lines: dict[tuple[object, ...], int],
    path: Path,
    error_type: type[FttError],
) -> None:
    import yaml

    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            place = (*keys, key.value)
            if place in lines:
                raise error_type(
                    f"{str(key.value)[:80]!r} is there twice",
                    where=f"{path}, line {key.start_mark.line + 1}",
                )
            lines[place] = key.start_mark.line + 1
            _note_lines(item, place, lines, path, error_type)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _note_lines(item, (*keys, number), lines, path, error_type)


def check_value(
    value: object,
    schema: str,
    error_type: type[FttError],
    place: Callable[..., str | None] = lambda *keys: None,
) -> None:
    """Check a value against one of our schemas.

    Args:
        value: A value of JSON's types.
        schema: Its name.
        error_type: What to raise.
        place: Where the part with these keys stands, for the message.

    Raises:
        FttError: An error of the type given.
    """
    wrong = violation(value, schema)
    if wrong is None:
        return
    inner = (wrong.unknown,) if wrong.unknown else ()
    raise error_type(_explain(value, wrong), where=place(*wrong.keys, *inner))


def _explain(value: Any, wrong: Violation) -> str:
    """What is wrong, in our words."""
    last = wrong.keys[-1] if wrong.keys else "the recipe"
    if wrong.rule == "additionalProperties":
        expected = ", ".join(wrong.known) or "none for this method"
        return f"unknown key {wrong.unknown[:80]!r}: expected {expected}"
    if wrong.rule == "enum":
        for key in wrong.keys:
            value = value[key]
        choices = ", ".join(map(str, wrong.allowed))
        return f"unknown {last} {str(value)[:80]!r}: expected one of {choices}"
    return f"{last}: {wrong.message[:200]}"
