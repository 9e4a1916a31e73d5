"""What a JSON schema says: references and parts put together, and whether a value is allowed.

What is not understood is refused: a schema that is only half understood would be met by accident.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from concur_agents.errors import ConcurError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_LEVELS = 40
"""Schemas within schemas; beyond it a schema is taken for one that never ends."""
MOST_LOOKS = 20_000
"""Schemas looked at for one value: branches that contain each other would multiply without it."""

_REFUSED = (
    "not",
    "if",
    "pattern",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
    "minProperties",
    "maxProperties",
    "$dynamicRef",
    "$recursiveRef",
)
BY_KEYWORD = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_ALLOWED = {keyword for keywords in BY_KEYWORD.values() for keyword in keywords}
_ASSERTING = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", *_ALLOWED}


class SchemaError(ConcurError, ValueError):
    """No value can be made for a schema; the message names the keyword."""


class Unsatisfied(SchemaError):
    """Nothing fits here; another branch may."""


class Rules:
    """A schema and what its references lead to.

    Args:
        root: The whole schema.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._looks = 0

    def plain(self, schema: Any, level: int) -> dict[str, Any]:
        """A schema without `$ref` and `allOf` at its top.

        Args:
            schema: A part of the whole.
            level: How many schemas it is in.

        Raises:
            SchemaError: If it uses what is not understood.
        """
        self._looks += 1
        if self._looks > MOST_LOOKS:
            raise SchemaError("the schema is too large, or its `$ref`s lead in circles")
        if schema is True:
            return {}
        if schema is False:
            raise Unsatisfied("the schema is false, which allows no value")
        if not isinstance(schema, dict):
            raise SchemaError(f"a schema is an object or true, not {shown(schema)}")
        for keyword in _REFUSED:
            if keyword in schema:
                raise SchemaError(f"the keyword `{keyword}` is not supported: leave it out")
        if "$ref" in schema:
            rest = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
            schema = self.merged([self._target(schema["$ref"]), rest], "$ref", level)
        if "allOf" in schema:
            rest = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
            schema = self.merged([*list_in(schema, "allOf"), rest], "allOf", level)
        plain: dict[str, Any] = schema
        return plain

    def merged(self, schemas: list[Any], keyword: str, level: int) -> dict[str, Any]:
        """Several schemas as one that asks for all of them, as far as that can be told without effort.

        Args:
            schemas: Parts of the whole.
            keyword: What puts them together, for errors.
            level: How many schemas they are in.

        Raises:
            SchemaError: If they have different rules for one thing.
        """
        if level > MOST_LEVELS:
            raise SchemaError(f"`{keyword}` leads back to itself")
        merged: dict[str, Any] = {}
        for schema in schemas:
            for name, value in self.plain(schema, level + 1).items():
                if name not in _ASSERTING or name not in merged or merged[name] == value:
                    merged[name] = value
                elif name == "required":
                    merged[name] = [*merged[name], *(one for one in value if one not in merged[name])]
                elif name == "properties" and not any(merged[name].get(one, sub) != sub for one, sub in value.items()):
                    merged[name] = {**merged[name], **value}
                else:
                    raise SchemaError(f"`{keyword}` puts two different `{name}` together, which is not supported")
        return merged

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise SchemaError(
                f"`$ref` {shown(reference)} is not supported: only those into the schema itself, #/…, are"
            )
        found = self._root
        for step in reference[2:].split("/") if len(reference) > 1 else ():
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise SchemaError(f"`$ref` {shown(reference)} leads nowhere")
        return found

    def allows(self, schema: Any, value: Any, level: int = 0) -> bool:
        """Whether a value is allowed by a part of the whole.

        Raises:
            SchemaError: If the part uses what is not understood.
        """
        if level > MOST_LEVELS:
            raise SchemaError("the schema nests without end: `$ref` leads back to itself")
        if isinstance(schema, bool):
            return schema
        try:
            schema = self.plain(schema, level)
        except Unsatisfied:
            return False

        def fits(part: Any, one: Any) -> bool:
            return self.allows(part, one, level + 1)

        return (
            ("const" not in schema or same(schema["const"], value))
            and ("enum" not in schema or any(same(one, value) for one in list_in(schema, "enum")))
            and ("anyOf" not in schema or any(fits(branch, value) for branch in list_in(schema, "anyOf")))
            and ("oneOf" not in schema or sum(fits(branch, value) for branch in list_in(schema, "oneOf")) == 1)
            and ("type" not in schema or _has_type(schema["type"], value))
            and _in_limits(schema, value, fits)
        )


def _in_limits(schema: dict[str, Any], value: Any, fits: Callable[[Any, Any], bool]) -> bool:
    if isinstance(value, str):
        return count_in(schema, "minLength", 0) <= len(value) <= count_in(schema, "maxLength", len(value))
    if is_number(value):
        low, high, open_low, open_high = bounds(schema, -math.inf, math.inf)
        unit = schema.get("multipleOf")
        return (
            (value > low if open_low else value >= low)
            and (value < high if open_high else value <= high)
            and (unit is None or (value / unit) == round(value / unit))
        )
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        return (
            count_in(schema, "minItems", 0) <= len(value) <= count_in(schema, "maxItems", len(value))
            and all(fits(first[at] if at < len(first) else rest, item) for at, item in enumerate(value))
            and not (schema.get("uniqueItems") and any(same(a, b) for at, a in enumerate(value) for b in value[:at]))
        )
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        return all(name in value for name in schema.get("required", [])) and all(
            fits(properties.get(name, others), part) for name, part in value.items()
        )
    return True


def _has_type(kinds: Any, value: Any) -> bool:
    checks: dict[str, bool] = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "number": is_number(value),
        "integer": is_number(value) and value == int(value),
        "boolean": isinstance(value, bool),
        "null": value is None,
    }
    return any(checks.get(kind, False) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def bounds(
    schema: dict[str, Any], least: float | None = None, most: float | None = None
) -> tuple[float, float, bool, bool]:
    """Lowest and highest number, and whether each is itself left out; 100 wide where the schema has one end only."""
    given: dict[str, float] = {}
    for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        bound = schema.get(keyword)
        if bound is None:
            continue
        if not is_number(bound):
            raise SchemaError(f"`{keyword}` is {shown(bound)}: it must be a number")
        given[keyword] = bound
    lows = [(given[k], k == "exclusiveMinimum") for k in ("minimum", "exclusiveMinimum") if k in given]
    highs = [(given[k], k == "exclusiveMaximum") for k in ("maximum", "exclusiveMaximum") if k in given]
    low, open_low = max(lows) if lows else (None, False)
    high, open_high = min(highs, key=lambda bound: (bound[0], not bound[1])) if highs else (None, False)
    if low is None:
        low = least if least is not None else (0 if high is None or high > 0 else high - 100)
    if high is None:
        high = most if most is not None else low + 100
    return low, high, open_low, open_high


def list_in(schema: dict[str, Any], keyword: str) -> list[Any]:
    """A keyword's list, which must not be empty.

    Raises:
        SchemaError: If it is none.
    """
    values = schema[keyword]
    if not isinstance(values, list) or not values:
        raise SchemaError(f"`{keyword}` must be a list with something in it")
    return values


def count_in(schema: dict[str, Any], keyword: str, default: int) -> int:
    """A keyword's whole number, 0 or more.

    Raises:
        SchemaError: If it is none.
    """
    count = schema.get(keyword, default)
    if not is_number(count) or count < 0 or count != int(count):
        raise SchemaError(f"`{keyword}` is {shown(count)}: it must be a whole number")
    return int(count)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, though 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one == other)


def shown(value: Any) -> str:
    """A value in an error, not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
