"""Values checked against the JSON Schemas (2020-12) that ship with the package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import IntegrityError
from ftt_hub.schemas import load_schema

if TYPE_CHECKING:
    import jsonschema_rs

Json = dict[str, Any]

_COMBINED = ("oneOf", "anyOf")


@dataclass(frozen=True)
class Violation:
    """The error that says most about a value that breaks its schema.

    Attributes:
        keys: Keys and indices on the way to the part that is wrong.
        rule: The schema's keyword, such as ``enum``.
        message: What is wrong with the part, in the validator's words.
        allowed: For ``enum``: what the part may be.
        known: For ``additionalProperties``: the keys that the part may have.
        unknown: For ``additionalProperties``: the first key that it may not have.
    """

    keys: tuple[str | int, ...]
    rule: str
    message: str
    allowed: tuple[object, ...] = ()
    known: tuple[str, ...] = ()
    unknown: str = ""


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(load_schema(schema))


def violation(value: object, schema: str) -> Violation | None:
    """What is wrong with a value; ``None`` when it satisfies the schema.

    Args:
        value: A value of JSON's types.
        schema: Name of one of our schemas.
    """
    try:
        if _validator(schema).is_valid(value):
            return None
        error = _clearest(_validator(schema).iter_errors(value))
    except ValueError as refusal:  # a type that JSON does not have
        return Violation((), "type", str(refusal))
    return _explained(error, value, load_schema(schema))


def _clearest(errors: Iterable[jsonschema_rs.ValidationError]) -> jsonschema_rs.ValidationError:
    """A wrong choice before all else, then the outermost error; of equals the first."""
    return min(
        errors,
        key=lambda e: (e.kind.name != "enum", e.kind.name in _COMBINED, len(e.instance_path)),
    )


def _explained(
    error: jsonschema_rs.ValidationError, value: object, schema: dict[str, Any]
) -> Violation:
    kind: Any = error.kind
    keys, rule = tuple(error.instance_path), kind.name
    if rule in _COMBINED and getattr(kind, "context", None):
        return _of_alternatives(keys, rule, kind.context, value, schema)
    if rule == "enum":
        return Violation(keys, rule, error.message, allowed=tuple(kind.options))
    if error.schema_path[-1:] == ["additionalProperties"]:  # the rule or a "false" in its place
        part, whole = _part(value, keys), _part(schema, error.schema_path[:-1])
        known = tuple(whole.get("properties", {}))
        unknown = next(key for key in part if key not in known)
        return Violation(keys, "additionalProperties", error.message, known=known, unknown=unknown)
    return Violation(keys, rule, error.message)


def _part(value: Any, keys: Iterable[str | int]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _of_alternatives(
    keys: tuple[str | int, ...],
    rule: str,
    alternatives: Iterable[Iterable[jsonschema_rs.ValidationError]],
    value: object,
    schema: dict[str, Any],
) -> Violation:
    """The innermost error of the alternatives, which is that of the one that was meant."""
    clearest = [_clearest(errors) for errors in alternatives if errors]
    inner = max(clearest, key=lambda e: (len(e.instance_path), e.kind.name == "enum"))
    if len(inner.instance_path) > len(keys) or inner.kind.name == "enum":
        return _explained(inner, value, schema)
    return Violation(keys, rule, "; or ".join(dict.fromkeys(e.message for e in clearest)))


def validate(value: object, schema: str, where: str) -> Json:
    """The value itself, when it is a JSON object that satisfies one of our schemas.

    Raises:
        IntegrityError: It does not; the message names the part and what was expected there.
    """
    wrong = violation(value, schema)
    if wrong is not None:
        at = "/".join(map(str, wrong.keys))[:120] or "the top level"
        raise IntegrityError(
            f"invalid at {at}: {wrong.message[:200]}",
            where=where,
            hint="The adapter is damaged or was not made by ftt-hub.",
        )
    if not isinstance(value, dict):
        raise IntegrityError("is not a JSON object", where=where)
    return value
