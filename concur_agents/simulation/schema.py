"""Values that a JSON schema allows, drawn at random, for the arguments of tool calls and for structured answers.

A small part of JSON Schema 2020-12 (and of the drafts 7 and 2019-09, where they say the same): what tools and
pydantic's models use. What is not understood is refused rather than answered wrongly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from concur_agents.simulation.schema_rules import (
    BY_KEYWORD,
    MOST_LEVELS,
    Rules,
    SchemaError,
    Unsatisfied,
    bounds,
    count_in,
    is_number,
    list_in,
    same,
    shown,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

SHALLOW = 6
"""From this level on only what is required is written, so that recursive schemas come to an end."""
TRIES = 30

_WORDS = ("open", "read", "list", "find", "north", "blue", "seven", "paper", "river", "stone", "field", "light")
_FORMATS = {
    "date-time": "2024-05-17T09:30:00Z",
    "date": "2024-05-17",
    "time": "09:30:00Z",
    "duration": "PT90S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/page",
    "uri-reference": "https://example.com/page",
    "uuid": "7f1c2d3e-4a5b-4c6d-8e7f-901234567890",
    "json-pointer": "/field",
    "regex": "a",
}


def value_for(schema: Any, rng: random.Random) -> Any:
    """Draw a value.

    Args:
        schema: A JSON schema: an object, or true.
        rng: Where randomness comes from.

    Returns:
        A JSON value that the schema allows.

    Raises:
        SchemaError: If the schema uses a keyword that is not understood, contradicts itself, or is none.
    """
    return _Drawing(schema, rng).value(schema, 0)


class _Drawing:
    def __init__(self, root: Any, rng: random.Random) -> None:
        self._rules = Rules(root)
        self._rng = rng

    def value(self, schema: Any, level: int) -> Any:
        if level > MOST_LEVELS:
            raise SchemaError("the schema nests without end: `$ref` leads back to itself through required parts only")
        schema = self._rules.plain(schema, level)
        if "const" in schema or "enum" in schema:
            return self._listed(schema)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._branch(schema, keyword, level)
        kind = self._kind(schema, level)
        return _KINDS[kind](self, schema, level)

    def _listed(self, schema: dict[str, Any]) -> Any:
        values = [schema["const"]] if "const" in schema else list_in(schema, "enum")
        rest = {keyword: value for keyword, value in schema.items() if keyword != "const"}
        fitting = [value for value in values if self._rules.allows(rest, value)]
        if not fitting:
            raise Unsatisfied(f"no value of `{'const' if 'const' in schema else 'enum'}` fits the rest of its schema")
        return self._rng.choice(fitting)

    def _branch(self, schema: dict[str, Any], keyword: str, level: int) -> Any:
        """Try the branches, in a drawn order; deep down the ones that end soonest first."""
        branches = list_in(schema, keyword)
        rest = {name: value for name, value in schema.items() if name != keyword}
        order = self._rng.sample(range(len(branches)), len(branches))
        if level >= SHALLOW:
            order.sort(key=lambda at: _depth_hint(branches[at]))
        why: SchemaError = Unsatisfied(f"no branch of `{keyword}` can be met")
        for at in order:
            try:
                merged = self._rules.merged([branches[at], rest], keyword, level)
                for _ in range(TRIES if keyword == "oneOf" else 1):
                    value = self.value(merged, level + 1)
                    if keyword == "anyOf" or sum(self._rules.allows(branch, value) for branch in branches) == 1:
                        return value
            except SchemaError as error:
                why = error
        raise why

    def _kind(self, schema: dict[str, Any], level: int) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, str):
            kinds = [kinds]
        if kinds is None:
            kinds = [kind for kind, keywords in BY_KEYWORD.items() if any(keyword in schema for keyword in keywords)]
            kinds = kinds[:1] or ["string"]
        if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) for kind in kinds):
            raise SchemaError(f"`type` is {shown(kinds)}: it must be the name of a type, or a list of some")
        for kind in kinds:
            if kind not in _KINDS:
                raise SchemaError(f"`type` {shown(kind)} does not exist")
        if level >= SHALLOW and "null" in kinds:
            return "null"
        chosen: str = self._rng.choice([kind for kind in kinds if kind != "null"] or kinds)
        return chosen

    # --- the kinds ----------------------------------------------------------------------------------------------------

    def _object(self, schema: dict[str, Any], level: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict):
            raise SchemaError("`properties` must be an object")
        if not isinstance(required, list):
            raise SchemaError("`required` must be a list")
        value: dict[str, Any] = {}
        for name, part in properties.items():
            if name in required:
                value[name] = self.value(part, level + 1)
            elif level < SHALLOW and self._rng.random() < 0.5:
                try:
                    value[name] = self.value(part, level + 1)
                except Unsatisfied:
                    continue
        for name in required:
            if name not in properties:
                value[name] = self.value(schema.get("additionalProperties", True), level + 1)
        return value

    def _array(self, schema: dict[str, Any], level: int) -> list[Any]:
        first = list_in(schema, "prefixItems") if "prefixItems" in schema else []
        items = schema.get("items", True)
        if isinstance(items, list):
            raise SchemaError("`items` as a list is not supported: call it `prefixItems`")
        least = count_in(schema, "minItems", 0)
        most = count_in(schema, "maxItems", max(least, len(first), 3))
        if items is False:
            most = min(most, len(first))
        if least > most:
            raise Unsatisfied(f"`minItems` is {least}, and more than {most} items are not allowed")
        length = least
        if level < SHALLOW:
            length = self._rng.randint(min(most, max(least, 1)), min(most, least + 3))
        length = max(length, min(len(first), most))
        value: list[Any] = []
        for at in range(length):
            part = first[at] if at < len(first) else items
            for _ in range(TRIES):
                item = self.value(part, level + 1)
                if not schema.get("uniqueItems") or not any(same(item, other) for other in value):
                    value.append(item)
                    break
            else:
                if len(value) >= least:
                    break
                raise Unsatisfied("`uniqueItems`: not enough different items were found")
        return value

    def _string(self, schema: dict[str, Any], level: int) -> str:  # noqa: ARG002  as the other kinds
        least = count_in(schema, "minLength", 0)
        most = count_in(schema, "maxLength", max(least, 40))
        if least > most:
            raise Unsatisfied(f"`minLength` {least} is over `maxLength` {most}")
        known = _FORMATS.get(schema.get("format", ""))
        if known is not None and least <= len(known) <= most:
            return known
        text = " ".join(self._rng.choices(_WORDS, k=self._rng.randint(1, 4)))
        while len(text) < least:
            text += " " + self._rng.choice(_WORDS)
        if len(text) > most:
            text = text[:most].rstrip().ljust(least, "x")
        return text

    def _number(self, schema: dict[str, Any], level: int) -> float:  # noqa: ARG002  as the other kinds
        low, high, open_low, open_high = bounds(schema)
        if "multipleOf" in schema:
            return self._multiple(schema, low, high, open_low=open_low, open_high=open_high, whole=False)
        least, most = math.ceil(low), math.floor(high)
        if most > least:
            return self._rng.randint(least, min(most - 1, least + 99)) + 0.25  # a fraction that prints as it is
        value = (low + high) / 2
        if not (low < value < high or (low == high and not open_low and not open_high)):
            raise Unsatisfied(f"no number is between {low} and {high}")
        return value

    def _integer(self, schema: dict[str, Any], level: int) -> int:  # noqa: ARG002  as the other kinds
        low, high, open_low, open_high = bounds(schema)
        if "multipleOf" in schema:
            return int(self._multiple(schema, low, high, open_low=open_low, open_high=open_high, whole=True))
        least = math.floor(low) + 1 if open_low else math.ceil(low)
        most = math.ceil(high) - 1 if open_high else math.floor(high)
        if least > most:
            raise Unsatisfied(f"no integer is between {low} and {high} (`minimum`, `maximum`)")
        return self._rng.randint(least, min(most, least + 99))

    def _multiple(
        self, schema: dict[str, Any], low: float, high: float, *, open_low: bool, open_high: bool, whole: bool
    ) -> float:
        unit = schema["multipleOf"]
        if not is_number(unit) or unit <= 0:
            raise SchemaError(f"`multipleOf` is {shown(unit)}: it must be a number above 0")
        first = math.ceil(low / unit)
        for times in range(first, first + 1000):
            value = times * unit
            if value > high:
                break
            out = (open_low and value <= low) or (open_high and value >= high) or value < low
            if not out and (not whole or value == int(value)):
                return int(value) if value == int(value) else value
        raise Unsatisfied(f"no multiple of {unit} (`multipleOf`) is between {low} and {high}")

    def _boolean(self, schema: dict[str, Any], level: int) -> bool:  # noqa: ARG002  as the other kinds
        return self._rng.random() < 0.5

    def _null(self, schema: dict[str, Any], level: int) -> None:
        """The one value there is."""


_KINDS: dict[str, Callable[[_Drawing, dict[str, Any], int], Any]] = {
    "object": _Drawing._object,  # noqa: SLF001  its own table
    "array": _Drawing._array,  # noqa: SLF001
    "string": _Drawing._string,  # noqa: SLF001
    "number": _Drawing._number,  # noqa: SLF001
    "integer": _Drawing._integer,  # noqa: SLF001
    "boolean": _Drawing._boolean,  # noqa: SLF001
    "null": _Drawing._null,  # noqa: SLF001
}


def _depth_hint(branch: Any) -> int:
    """Null and plain values before lists, lists before objects and references."""
    kind = branch.get("type") if isinstance(branch, dict) else None
    if kind in {"null", "string", "integer", "number", "boolean"} or (isinstance(branch, dict) and "const" in branch):
        return 0
    return 1 if kind == "array" else 2
