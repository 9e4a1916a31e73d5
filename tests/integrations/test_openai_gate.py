"""The gated client at a real gate."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest

from concur_agents import ConcurGate, GateClosed

from .openai_calls import ASK, chat_create, chat_create_stream, response_stream
from .test_openai_cancel import cancelled_at, outcome_of


@pytest.fixture
async def gate():
    async with ConcurGate(controller="fixed:1") as gate:
        yield gate


@pytest.fixture
def client(gate, plain):
    return gate.openai(plain)


async def test_an_agent_keeps_its_place_over_its_turns(gate, client, vllm):
    async def agent(name):
        async with gate.agent(name) as agent:
            await chat_create(client)
            await asyncio.sleep(0)
            await chat_create_stream(client)
        return agent

    first, second = await asyncio.gather(agent("first"), agent("second"))
    sessions = [seen.headers["x-session-id"] for seen in vllm.seen]
    assert sessions == [first.session_id] * 2 + [second.session_id] * 2
    assert [(each.turns, each.prompt_tokens, each.cached_tokens) for each in (first, second)] == [(2, 42, 32)] * 2


async def test_the_footprint_of_an_agent_is_what_its_last_turn_reported(gate, client):
    async with gate.agent() as agent:
        for call in (chat_create, chat_create_stream, response_stream):
            await call(client)
            assert agent.footprint == 25


async def test_a_turn_around_a_call_is_only_a_place_to_pause(gate, client):
    async with gate.agent() as agent:
        async with agent.turn():
            await chat_create(client)
        assert agent.turns == 1


async def test_a_call_outside_any_agent_is_an_agent_until_its_stream_ends(gate, client):
    stream = await client.chat.completions.create(**ASK, stream=True)
    assert gate.stats().active == 1
    await stream.close()
    assert (gate.stats().active, gate.stats().finished) == (0, 1)


async def test_a_stream_that_nobody_reads_gives_its_place_back(gate, client):
    stream = await client.chat.completions.create(**ASK, stream=True)
    waiting = asyncio.create_task(chat_create(client))
    await asyncio.sleep(0)
    assert not waiting.done()
    del stream
    gc.collect()
    assert await waiting == "the answer is 42"


async def test_a_call_waits_while_there_is_no_room_and_fails_when_the_gate_closes(gate, client, vllm):
    async with gate.agent():
        calling = asyncio.create_task(chat_create(client), context=contextvars.Context())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not vllm.seen
        await gate.aclose()
        with pytest.raises(GateClosed):
            await calling


@pytest.mark.parametrize("call", [chat_create, chat_create_stream, response_stream])
async def test_no_place_is_lost_wherever_a_call_is_cancelled(call, gate, client):
    nth, outcome = 0, None
    while outcome != "the answer is 42":
        nth += 1
        outcome = await outcome_of(cancelled_at(nth, call(client)))
        stats = gate.stats()
        assert (stats.active, stats.running, stats.queued) == (0, 0, 0)
