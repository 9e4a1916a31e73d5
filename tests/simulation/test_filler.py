"""Answers: as long as asked, told in tokens that are their text, and valid where a schema is given."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from concur_agents.simulation.filler import Filler, Length, drawn_length, seed_of
from concur_agents.simulation.schema import value_for
from concur_agents.simulation.schema_rules import SchemaError
from concur_agents.simulation.tokens import Tokenizer, unpacked

TOKENIZER = Tokenizer()
FILLER = Filler(TOKENIZER)
SEED = seed_of(b"a prompt")
WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
        "required": ["city", "unit"],
    },
}


def check_schema(schema, value):
    jsonschema.Draft202012Validator(schema).validate(value)


@given(st.binary(max_size=20), st.integers(1, 700), st.booleans())
def test_words_have_exactly_the_length_and_are_their_own_tokens(prompt, most, spaced):
    output = FILLER.words(seed_of(prompt), Length(most, least=most), spaced=spaced)
    text = "".join(output.pieces)
    assert len(output.pieces) == most
    assert TOKENIZER.encode(text) == output.ids
    assert TOKENIZER.pieces(text) == output.pieces
    assert output.finish_reason == "length"
    assert output.said == len(text)
    assert text.startswith(" " if spaced else "Filler")


def test_the_words_say_that_they_are_filler():
    text = "".join(FILLER.words(SEED, Length(30, least=30)).pieces)
    assert text.startswith("Filler text from a test engine, not a model: ")


def test_the_same_prompt_gets_the_same_words_and_another_gets_others():
    length = Length(50, least=50)
    assert FILLER.words(SEED, length) == FILLER.words(seed_of(b"a prompt"), length)
    assert FILLER.words(SEED, length) != FILLER.words(seed_of(b"another"), length)
    assert seed_of(b"a prompt", 1) not in {SEED, seed_of(b"a prompt", 2)}


def test_a_length_that_is_not_fixed_is_drawn_and_cut_at_the_most():
    lengths = []
    for number in range(2000):
        seed = seed_of(b"%d" % number)
        drawn = drawn_length(seed)
        output = FILLER.words(seed, Length(200))
        assert len(output.pieces) == min(drawn, 200)
        assert output.finish_reason == ("length" if drawn > 200 else "stop")
        lengths.append(drawn)
    assert 110 < sorted(lengths)[1000] < 131
    assert min(lengths) >= 1


@pytest.mark.parametrize("most", [1, 2, 5, 24, 25, 26, 27, 28, 29, 30, 31, 80])
def test_a_tool_call_is_padded_or_cut_to_an_exact_length(most):
    output = FILLER.tool_call(SEED, WEATHER, Length(most, least=most))
    text = "".join(output.pieces)
    assert len(output.pieces) == len(output.ids) // 4 == most
    assert output.finish_reason == "length"
    assert output.call is not None
    whole = FILLER.tool_call(SEED, WEATHER, Length(1000))
    if most >= len(whole.pieces):
        arguments = json.loads(text[output.call.start : output.call.end])
        check_schema(WEATHER["parameters"], arguments)
        assert text[output.said :].strip().startswith("<tool_call>")


def test_a_tool_call_of_free_length_is_only_the_call():
    output = FILLER.tool_call(SEED, WEATHER, Length(1000))
    text = "".join(output.pieces)
    assert (output.said, output.finish_reason) == (0, "stop")
    assert TOKENIZER.encode(text) == output.ids
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert call["name"] == "get_weather"
    assert json.loads(text[output.call.start : output.call.end]) == call["arguments"]


def test_a_function_without_parameters_is_called_with_an_empty_object():
    output = FILLER.tool_call(SEED, {"name": "now"}, Length(1000))
    assert "".join(output.pieces)[output.call.start : output.call.end] == "{}"


def test_ids_are_numbers_of_the_vocabulary():
    ids = unpacked(FILLER.words(SEED, Length(300, least=300)).ids)
    assert all(2 <= number < 150_000 for number in ids)


# --- schemas ----------------------------------------------------------------------------------------------------------

leaves = st.one_of(
    st.just(True),
    st.just({}),
    st.builds(
        lambda low, width: {"type": "integer", "minimum": low, "maximum": low + width},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, width: {"type": "number", "exclusiveMinimum": low, "maximum": low + width},
        st.floats(-50, 50),
        st.floats(0.1, 9),
    ),
    st.builds(
        lambda low, unit: {"type": "integer", "exclusiveMinimum": low, "multipleOf": unit},
        st.integers(-50, 50),
        st.integers(1, 7),
    ),
    st.builds(
        lambda low, width: {"type": "string", "minLength": low, "maxLength": low + width},
        st.integers(0, 60),
        st.integers(0, 9),
    ),
    st.builds(lambda kind: {"type": "string", "format": kind}, st.sampled_from(["date", "uuid", "email", "date-time"])),
    st.builds(
        lambda values: {"enum": values}, st.lists(st.none() | st.booleans() | st.integers() | st.text(), min_size=1)
    ),
    st.builds(lambda value: {"const": value}, st.none() | st.booleans() | st.integers() | st.text()),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"$ref": "#/$defs/node"}]),
)


def objects(parts):
    return st.builds(
        lambda properties, share, closed: {
            "type": "object",
            "properties": properties,
            "required": list(properties)[: int(len(properties) * share)],
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.text(max_size=5), parts, max_size=4),
        st.floats(0, 1),
        st.booleans(),
    )


def arrays(parts):
    return st.builds(
        lambda items, least, width: {"type": "array", "items": items, "minItems": least, "maxItems": least + width},
        parts,
        st.integers(0, 3),
        st.integers(0, 3),
    )


schemas = st.recursive(
    leaves,
    lambda parts: st.one_of(
        objects(parts),
        arrays(parts),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda branches: {"oneOf": branches}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda part: {"allOf": [part], "description": "wrapped"}, parts),
    ),
    max_leaves=12,
)
NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "n": {"type": "integer"}},
    "required": ["next", "n"],
}


@given(schemas, st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_what_is_drawn_is_valid_by_its_schema(schema, seed):
    schema = {"$defs": {"node": NODE}, "type": "object", "properties": {"part": schema}, "required": ["part"]}
    try:
        value = value_for(schema, random.Random(seed))
    except SchemaError:
        assume(False)  # `oneOf` of schemas that overlap everywhere
    check_schema(schema, json.loads(json.dumps(value)))


def test_few_schemas_of_the_property_are_refused():
    refused = [0, 0]

    @given(schemas)
    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    def count(schema):
        assume("oneOf" not in str(schema))
        refused[1] += 1
        try:
            value_for({"$defs": {"node": NODE}, "allOf": [schema]} if schema is not True else True, random.Random(1))
        except SchemaError:
            refused[0] += 1

    count()
    assert refused[0] <= 0.05 * refused[1]


def test_a_schema_as_pydantic_writes_it_is_met():
    from typing import Literal

    from pydantic import BaseModel, Field

    class Line(BaseModel):
        product: str = Field(min_length=3)
        count: int = Field(ge=1, lt=5)
        price: float = Field(gt=0.0, le=0.5)
        note: str | None = None

    class Order(BaseModel):
        lines: list[Line] = Field(min_length=2)
        kind: Literal["rush", "normal"]
        parts: list[Order] = []

    for seed in range(50):
        Order.model_validate(value_for(Order.model_json_schema(), random.Random(seed)))


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "string", "pattern": "^a$"}, "pattern"),
        ({"not": {"type": "string"}}, "not"),
        ({"if": {}, "then": {}}, "if"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"$ref": "https://example.com/schema"}, "ref"),
        ({"$ref": "#/$defs/missing"}, "ref"),
        ({"$ref": "#"}, "nests|lead"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "lead"),
        ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, "lead"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "nests"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "minimum"),
        ({"type": "integer", "minimum": "5"}, "minimum"),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "minLength"),
        ({"type": "string", "minLength": -1}, "minLength"),
        ({"type": "array", "items": [{}]}, "prefixItems"),
        ({"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "properties": {}, "required": ["a"], "additionalProperties": False}, "false"),
        ({"type": "object", "properties": []}, "properties"),
        ({"enum": []}, "enum"),
        ({"enum": [1], "type": "string"}, "enum"),
        ({"oneOf": [{"type": "integer"}, {"type": "integer"}]}, "oneOf"),
        ({"type": "text"}, "type"),
        ({"type": 5}, "type"),
        ({"multipleOf": 0}, "multipleOf"),
        ("string", "schema"),
        (None, "schema"),
    ],
)
def test_what_cannot_be_met_is_refused_with_the_keyword(schema, keyword):
    with pytest.raises(SchemaError, match=keyword):
        value_for(schema, random.Random(0))
