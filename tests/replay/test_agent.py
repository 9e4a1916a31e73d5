"""The agent without a server: each call goes through a gate that holds it, then takes its time, on a clock of ours."""

from __future__ import annotations

import asyncio

import pytest
from openai import AsyncOpenAI
from openai.types import Completion, CompletionChoice

from concur_agents.replay.agent import Replay, ReplayClient, build_graph, recursion_limit
from concur_agents.replay.prompt import Conversation
from concur_agents.replay.trace import AgentTrace, TraceStep

CONTEXTS = (10, 20, 30)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


def completion(ids):
    choice = CompletionChoice.construct(index=0, text="", finish_reason="length", token_ids=ids)
    return Completion.construct(choices=[choice])


@pytest.fixture
def bodies(monkeypatch, clock):
    """What reached the server; it takes 2 s for a call."""
    sent = []

    async def request(self, cast_to, options, **_):
        sent.append({**options.json_data, **options.extra_json})
        clock.now += 2.0
        return completion([7] * options.json_data["max_tokens"])

    monkeypatch.setattr(AsyncOpenAI, "request", request)
    return sent


@pytest.fixture
async def client(clock):
    """A client whose gate holds every call for 5 s."""
    client = ReplayClient(api_key="k", base_url="http://nowhere")
    through = client.request

    async def held(*args, **kwargs):
        clock.now += 5.0
        return await through(*args, **kwargs)

    client.request = held
    yield client
    await client.close()


def trace(*, tool=None):
    steps = [TraceStep(context_tokens=n, new_input_tokens=6, output_tokens=4, tool_seconds=tool) for n in CONTEXTS]
    return AgentTrace(agent_id="a", steps=steps)


async def nobody(names):
    raise AssertionError(f"this agent spawns nobody, and was to spawn {names}")


async def run(client, agent, clock):
    turns = []
    replay = Replay(Conversation(agent, 0), turns.append, since=clock.now, spawn=nobody)
    clock.now += 100.0  # the admission
    await build_graph(client, "tiny", "salt").ainvoke(
        {"replay": replay, "step": 0}, {"recursion_limit": recursion_limit(len(agent.steps))}
    )
    return turns


async def test_a_calls_time_begins_when_it_is_through_the_gate(client, bodies, clock):
    turns = await run(client, trace(), clock)

    assert [turn.took_s for turn in turns] == [2.0, 2.0, 2.0]
    assert [turn.output_tokens for turn in turns] == [4, 4, 4]


async def test_the_admission_is_part_of_the_wait_for_the_first_call(client, bodies, clock):
    turns = await run(client, trace(), clock)

    assert [turn.waited_s for turn in turns] == [105.0, 5.0, 5.0]


async def test_without_a_gate_nothing_but_the_start_is_waited_for(bodies, clock):
    async with ReplayClient(api_key="k", base_url="http://nowhere") as client:
        turns = await run(client, trace(), clock)

    assert [turn.waited_s for turn in turns] == [100.0, 0.0, 0.0]


async def test_a_call_says_all_that_the_server_must_know(client, bodies, clock):
    await run(client, trace(), clock)

    prompt = bodies[1].pop("prompt")
    assert len(prompt) == 20
    assert prompt[10:14] == [7, 7, 7, 7]
    assert bodies[1] == {
        "model": "tiny",
        "max_tokens": 4,
        "min_tokens": 4,
        "ignore_eos": True,
        "cache_salt": "salt",
        "return_token_ids": True,
    }


@pytest.mark.parametrize(("tool", "waits"), [(7.25, [7.25, 7.25]), (None, [0.0, 0.0]), (0.0, [0.0, 0.0])])
async def test_tool_waits_lie_between_the_calls_and_not_after_the_last(client, bodies, clock, monkeypatch, tool, waits):
    slept = []
    sleep = asyncio.sleep

    async def jump(seconds):
        slept.append(seconds)
        clock.now += seconds
        await sleep(0)

    monkeypatch.setattr("concur_agents.replay.agent.asyncio.sleep", jump)
    turns = await run(client, trace(tool=tool), clock)

    assert slept == waits
    assert [turn.waited_s for turn in turns[1:]] == [5.0, 5.0]  # a tool's time is not the gate's


async def test_a_long_agent_is_within_its_recursion_limit(client, bodies, clock):
    step = TraceStep(context_tokens=5, new_input_tokens=5, output_tokens=1)

    turns = await run(client, AgentTrace(agent_id="a", steps=[step] * 200), clock)

    assert len(turns) == 200
