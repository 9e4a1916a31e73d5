"""Prompts agree as far as their token sequences would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation.naive_vllm import tokens_of

from concur_agents.simulation import Prompt

segments = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=6)


def agreeing_tokens(one: Prompt, other: Prompt) -> int:
    agreeing = 0
    for ours, theirs in zip(tokens_of(one), tokens_of(other), strict=False):
        if ours != theirs:
            break
        agreeing += 1
    return agreeing


@given(segments, segments, segments)
def test_common_tokens_are_those_of_the_token_sequences(shared, one, other):
    ours, theirs = Prompt(shared + one), Prompt(shared + other)
    assert ours.common_tokens(theirs) == agreeing_tokens(ours, theirs)


@given(segments, segments, st.data())
def test_keys_are_equal_exactly_if_the_next_tokens_are(one, other, data):
    ours, theirs = Prompt([("a", 1), *one]), Prompt([("a", 1), *other])
    agreeing = agreeing_tokens(ours, theirs)
    start = data.draw(st.integers(0, min(agreeing, ours.tokens - 1, theirs.tokens - 1)))
    stop = data.draw(st.integers(start + 1, min(ours.tokens, theirs.tokens)))
    assert (ours.key(start, stop) == theirs.key(start, stop)) == (agreeing >= stop)


@given(segments, segments)
def test_a_prompt_grown_is_the_prompt_made_at_once(one, other):
    grown, at_once = Prompt(one).then(*other), Prompt(one + other)
    assert (grown.segments, grown.ends, grown.tokens) == (at_once.segments, at_once.ends, at_once.tokens)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.integers(1, 4))
def test_a_prompt_of_blocks_is_the_prompt_of_their_segments(names, tokens):
    made, plain = Prompt.of_blocks(names, tokens), Prompt([(name, tokens) for name in names])

    assert (made.segments, made.ends, made.tokens) == (plain.segments, plain.ends, plain.tokens)


def test_growing_leaves_the_shorter_prompt_as_it_was():
    short = Prompt([("system", 100)])
    short.then(("task", 20))
    assert (short.segments, short.ends, short.tokens) == ((("system", 100),), (100,), 100)


def test_a_segment_cut_short_agrees_with_the_whole():
    assert Prompt([("out", 60), ("tool", 5)]).common_tokens(Prompt([("out", 150)])) == 60


def test_segments_read_from_json_are_as_good_as_tuples():
    assert Prompt([["a", 3]]).segments == (("a", 3),)


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match="'out' has -1 tokens: a length is 0 or more"):
        Prompt([("out", -1)])


@pytest.mark.parametrize("length", [1.5, "7", None])
def test_a_length_that_is_no_integer_is_refused(length):
    with pytest.raises(TypeError):
        Prompt([("out", length)])
