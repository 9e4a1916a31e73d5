"""What a gated client does with a server that refuses: each attempt answered with 429 or 503 is noted, once."""

from __future__ import annotations

import contextlib

import openai
import pytest

from concur_agents import ConcurGate

from .openai_calls import CALLS, chat_create, chat_create_stream

REFUSALS = [[429], [503], [429, 503], [503, 429]]


@pytest.mark.parametrize("refusals", REFUSALS, ids=str)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_each_refused_attempt_of_a_call_is_noted_and_the_call_stays_one_turn(call, refusals, client, turns, vllm):
    vllm.refusals = list(refusals[: 1 if "copy" in call.__name__ else 2])
    expected = len(vllm.refusals)
    assert await call(client) == "the answer is 42"
    assert turns.turn.refusals == expected
    assert turns.turn.reported == (21, 4, 16)
    assert len(vllm.seen) == expected + 1


@pytest.mark.parametrize("max_retries", [0, 1, 2])
@pytest.mark.parametrize("call", [chat_create, chat_create_stream])
async def test_so_is_the_last_attempt_that_fails_the_call(call, max_retries, client, turns, vllm):
    vllm.refusals = [429] * 3
    with pytest.raises(openai.RateLimitError):
        await call(client.with_options(max_retries=max_retries))
    assert turns.turn.refusals == len(vllm.seen) == max_retries + 1
    assert turns.turn.end_calls == 1


async def test_an_attempt_that_the_server_forbids_to_retry_is_noted_once(client, turns, vllm):
    vllm.refusals = [503]
    vllm.refusal_headers = {"x-should-retry": "false"}
    with pytest.raises(openai.InternalServerError):
        await chat_create(client)
    assert turns.turn.refusals == len(vllm.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 500, 502, 504])
async def test_no_other_error_is_a_refusal(status, client, turns, vllm):
    vllm.refusals = [status]
    with contextlib.suppress(openai.APIStatusError):  # some are retried, and then served
        await chat_create(client)
    assert turns.turn.refusals == 0


async def test_refusals_of_what_is_no_turn_and_of_the_clients_original_are_nobodys(client, plain, turns, vllm):
    vllm.refusals = [429]
    await client.embeddings.create(model="tiny", input="x", encoding_format="float")
    vllm.refusals = [429]
    await chat_create(plain)
    assert not turns.turns


async def test_the_gate_counts_them(plain, vllm):
    async with ConcurGate(controller="none") as gate, gate.agent() as agent:
        vllm.refusals = [429, 503]
        await chat_create(gate.openai(plain))
        assert gate.totals.refusals == 2
        assert agent.turns == 1
