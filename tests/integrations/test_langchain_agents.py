"""`create_agent` with each of the gate's faces: the same as without, nothing lost, however the run ends."""

from __future__ import annotations

import pytest

from concur_agents import ConcurGate
from concur_agents.simulation.virtual_time import run

from .langchain_agents import (
    FACES,
    QUESTION,
    look_up,
    look_up_in_thread,
    new_engine,
    plain_model,
    settled,
    skip_if_events_miss_the_handler,
    ungated,
)

each_face = pytest.mark.parametrize("face", FACES.values(), ids=FACES.keys())
weighing_faces = pytest.mark.parametrize(
    "face", [make for name, make in FACES.items() if name != "rate limiter"], ids=[n for n in FACES if "rate" not in n]
)


def gist(message):
    """A message without the ids that are drawn anew for each run."""
    calls = [(call["name"], call["args"]) for call in getattr(message, "tool_calls", [])]
    return type(message).__name__, message.content, calls, getattr(message, "usage_metadata", None)


def shown(mode, item):
    if mode == "messages":
        message, about = item
        return gist(message), about["langgraph_node"], about["langgraph_step"]
    if mode == "updates":
        return {node: [gist(m) for m in update["messages"]] for node, update in item.items()}
    return [gist(message) for message in item["messages"]]


# ---------------------------------------------------------------- the same as without


def on_the_engine(make, look):
    """What a graph shows on an engine of its own, in virtual time."""

    async def main():
        gate, engine = ConcurGate(controller="fixed:1"), new_engine()
        shows = await look(make(gate, plain_model(engine), [look_up, look_up_in_thread]))
        assert await settled(gate)
        return shows, gate.stats(), engine.engine.counters()

    return run(main())


async def invoked(graph):
    return [gist(message) for message in (await graph.ainvoke(QUESTION))["messages"]]


async def batched(graph):
    return [[gist(message) for message in each["messages"]] for each in await graph.abatch([QUESTION] * 3)]


def streamed(mode):
    async def look(graph):
        return [shown(mode, item) async for item in graph.astream(QUESTION, stream_mode=mode)]

    return look


async def events(graph):
    return [(each["event"], each["name"]) async for each in graph.astream_events(QUESTION, version="v2")]


LOOKS = {
    "ainvoke": invoked,
    "abatch": batched,
    **{mode: streamed(mode) for mode in ("values", "updates", "messages")},
    "astream_events": events,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
@each_face
def test_a_gated_agent_shows_what_an_ungated_one_shows(face, look):
    expected, _, _ = on_the_engine(ungated, look)
    assert len(expected) > 2
    assert on_the_engine(face, look)[0] == expected


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
@weighing_faces
def test_the_usage_at_the_gate_is_what_the_engine_counted(face, look):
    if look is events:
        skip_if_events_miss_the_handler(face)
    _, stats, counted = on_the_engine(face, look)
    assert stats.turns == counted.first_tokens > 2
    assert stats.prompt_tokens == counted.prompt_tokens
    assert stats.output_tokens == counted.generation_tokens
    assert stats.cached_tokens == counted.prompt_tokens_cached
