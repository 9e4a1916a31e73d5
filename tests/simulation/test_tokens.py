"""Text, tokens, and what the cache knows them by."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.simulation.tokens import (
    ID_BYTES,
    Tokenizer,
    exchange_of,
    packed,
    tool_call_text,
    unpacked,
)

TOKENIZER = Tokenizer()
texts = st.text(max_size=30) | st.text(alphabet="ab \n\t_1.{}é漢\ud800", max_size=40)
ids = st.lists(st.integers(0, 3), max_size=60)


@given(texts)
def test_the_pieces_of_a_text_are_the_text(text):
    pieces = TOKENIZER.pieces(text)
    assert "".join(pieces) == text
    assert "" not in pieces
    assert TOKENIZER.encode(text) == TOKENIZER.ids(pieces)


@given(texts, texts)
def test_a_text_begins_with_the_tokens_of_its_beginning_but_for_the_last(start, more):
    tokens = TOKENIZER.pieces(start)
    assert TOKENIZER.pieces(start + more)[: max(0, len(tokens) - 1)] == tokens[:-1]


@given(texts, texts)
def test_text_that_begins_with_a_space_and_a_word_changes_no_token_before_it(start, more):
    text = f" word{more}"
    assert TOKENIZER.pieces(start + text)[: len(TOKENIZER.pieces(start))] == TOKENIZER.pieces(start)


@pytest.mark.parametrize("word", ["a", " a", "report", " report", ".", "\n", " 123", "é"])
def test_a_short_word_is_one_token(word):
    assert len(TOKENIZER.encode(word)) == ID_BYTES


def test_english_has_about_four_characters_a_token():
    text = (
        "Agents call a server many times in one run, and each call repeats the whole conversation. "
        "If the cache still holds its beginning, only the rest must be computed; otherwise all of it is read again."
    )
    assert 3.5 < len(text) / len(TOKENIZER.pieces(text)) < 5.5


def test_every_process_makes_the_same_ids():
    code = (
        "from concur_agents.simulation.tokens import *; print(unpacked(Tokenizer().encode('Hello, wide world: 42é')))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{unpacked(TOKENIZER.encode('Hello, wide world: 42é'))}\n"}


def test_remembered_texts_are_bounded():
    tokenizer = Tokenizer(cached_characters=5_000)
    for number in range(1000):
        tokenizer.encode(f"text number {number}")
    assert len(tokenizer._cached) < 25
    assert tokenizer.encode("x" * 10_000) == tokenizer.ids(["xxxxxx"] * 1666 + ["xxxx"])
    assert tokenizer.encode("text number 1") == TOKENIZER.encode("text number 1")


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_packing_loses_nothing(numbers):
    assert unpacked(packed(numbers)) == numbers


@pytest.mark.parametrize("numbers", [[-1], [2**32], [1.5], ["1"], [None]])
def test_what_is_no_token_id_is_refused(numbers):
    with pytest.raises((TypeError, OverflowError)):
        packed(numbers)


# --- content ----------------------------------------------------------------------------------------------------------


@given(ids, ids, ids, ids)
def test_two_requests_agree_in_exactly_their_common_full_blocks(first, its_output, second, other_output):
    one = exchange_of(packed(first), packed(its_output), 4)
    other = exchange_of(packed(second), packed(other_output), 4)
    ours, theirs = first + its_output, second + other_output
    common = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    common = min(len(ours), len(theirs)) if common is None else common
    assert one.content.common_tokens(other.content) // 4 == common // 4
    assert one.prompt.tokens == len(first)
    assert one.content.tokens == len(ours)
    full = len(first) // 4 * 4
    assert one.content.common_tokens(one.prompt) >= full


@given(ids, ids)
def test_an_output_that_is_fed_back_is_found(prompt, output):
    before = exchange_of(packed(prompt), packed(output), 4)
    after = exchange_of(packed(prompt + output), packed([7]), 4)
    full = (len(prompt) + len(output)) // 4 * 4
    assert after.prompt.common_tokens(before.content) >= full


def test_a_salt_splits_the_cache_from_the_first_block_on():
    same = packed([1] * 20)
    plain, salted, other = (exchange_of(same, b"", 4, salt).prompt for salt in (None, "a", "b"))
    assert salted.common_tokens(plain) == salted.common_tokens(other) == 0
    assert salted.segments[1:] == plain.segments[1:]
    assert exchange_of(same, b"", 4, "a").prompt.common_tokens(salted) == 20
    short = exchange_of(packed([1]), packed([1] * 8), 4, "a")
    assert short.content.common_tokens(exchange_of(packed([1]), packed([1] * 8), 4).content) == 0
    assert short.content.common_tokens(salted) == 8


# --- chat -------------------------------------------------------------------------------------------------------------


def test_a_conversation_is_rendered_message_by_message():
    one = TOKENIZER.render_chat([{"role": "user", "content": "Hi"}])
    two = TOKENIZER.render_chat(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Filler text"},
            {"role": "user", "content": "More"},
        ]
    )
    assert two.startswith(one + TOKENIZER.encode("Filler text"))
    # <|im_start|> user \n Hi <|im_end|> \n <|im_start|> assistant(2) \n
    assert len(one) == 10 * ID_BYTES


def test_text_cannot_forge_the_frame_of_a_message():
    start = TOKENIZER.render_chat([{"role": "user", "content": "a"}])[:ID_BYTES]
    forged = unpacked(TOKENIZER.encode("<|im_start|>system"))
    assert unpacked(start)[0] not in forged


def test_tools_are_told_in_the_first_system_message():
    tools = [{"type": "function", "function": {"name": "look"}}]
    with_system = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rendered = TOKENIZER.render_chat(with_system, tools)
    told = TOKENIZER.encode(f"Be kind.\n\n# Tools\n\n<tools>\n{json.dumps(tools[0])}\n</tools>")
    assert told in rendered
    assert TOKENIZER.render_chat(with_system[1:], tools) != TOKENIZER.render_chat(with_system[1:])
    assert rendered.endswith(TOKENIZER.render_chat(with_system[1:]))


def test_parts_and_tool_calls_are_part_of_what_a_message_says():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert TOKENIZER.render_chat([{"role": "user", "content": parts}]) == TOKENIZER.render_chat(
        [{"role": "user", "content": "one\ntwo"}]
    )
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    rendered = TOKENIZER.render_chat([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert TOKENIZER.encode(tool_call_text("look", '{"at": 1}')) in rendered
