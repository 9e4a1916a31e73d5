"""Cancelled at every await, failing in every callback, left at every item, closed at every moment: no place is lost.

And asyncio has nothing to complain of afterwards: nothing never awaited, and no exception never retrieved.
"""

from __future__ import annotations

import asyncio
import gc
import operator
from typing import Annotated

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage
from langgraph import errors
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import ConcurGate, GateClosed

from .langgraph_standins import since_1_2


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    messages: Annotated[list[AIMessage], operator.add]


INPUT = {"seen": []}
CONFIG = {"configurable": {"thread_id": "t"}}
POINTS = 600
DRAINED = getattr(errors, "GraphDrained", GateClosed)


def said(n):
    usage = {"input_tokens": 100 + n, "output_tokens": 10, "total_tokens": 110 + n}
    return {"seen": ["said"], "messages": [AIMessage("", usage_metadata=usage)]}


def loop_of_turns(gate):
    async def think(state: State) -> State:
        await asyncio.sleep(0)
        return said(len(state["seen"]))

    builder = StateGraph(State).add_node("think", gate.node(think)).add_edge(START, "think")
    builder.add_conditional_edges("think", lambda state: "think" if len(state["seen"]) < 2 else "__end__")
    return builder.compile(checkpointer=InMemorySaver())


def fan_out(gate):
    async def one(state: State) -> State:
        async with gate.turn() as turn:
            await asyncio.sleep(0)
            turn.report(prompt_tokens=50, completion_tokens=5)
        return said(1)

    async def last(state: State) -> State:
        return {"seen": [interrupt("who?")]}

    builder = StateGraph(State).add_node("one", gate.node(one)).add_node("last", gate.node(last))
    builder.add_conditional_edges(START, lambda _: [Send("one", {})] * 3, ["one"]).add_edge("one", "last")
    return builder.compile(checkpointer=InMemorySaver())


def subgraph(gate):
    builder = StateGraph(State).add_node("inner", gate.graph(loop_of_turns(gate)))
    return builder.add_edge(START, "inner").compile(checkpointer=InMemorySaver())


def workflow(gate):
    async def thinks(n: int) -> AIMessage:
        await asyncio.sleep(0)
        return said(n)["messages"][0]

    thinking = task(gate.node(thinks))

    @entrypoint(checkpointer=InMemorySaver())
    async def work(given: dict) -> int:
        return len(await asyncio.gather(thinking(1), thinking(2)))

    return work


BUILDS = [loop_of_turns, fan_out, subgraph, workflow]


async def ainvoke(graph):
    return await graph.ainvoke(INPUT, CONFIG)


async def astream(graph):
    return [item async for item in graph.astream(INPUT, CONFIG, stream_mode=["updates", "custom"], subgraphs=True)]


async def astream_events(graph):
    return [event async for event in graph.astream_events(INPUT, CONFIG, version="v2")]


async def third_events(graph):
    async with await graph.astream_events(INPUT, CONFIG, version="v3") as run:
        return [event async for event in run]


async def abatch(graph):
    return await graph.abatch([INPUT] * 2, [{"configurable": {"thread_id": name}} for name in "ab"])


FACES = [ainvoke, astream, astream_events, pytest.param(third_events, marks=since_1_2), abatch]
every_build = pytest.mark.parametrize("build", BUILDS)
every_face = pytest.mark.parametrize("face", FACES)
pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")


@pytest.fixture
async def complaints():
    """What the loop is told, in place of its log; nothing, by the end of the test."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    gc.freeze()  # what is here already need not be looked at in each of the many collections
    yield told
    gc.collect()
    gc.unfreeze()
    await settle()
    assert told == []


async def settle():
    for _ in range(60):
        await asyncio.sleep(0)


async def steps(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def all_places_are_back(gate, what):
    if gate.admission.live:
        await settle()
    stats = gate.stats()
    assert gate.admission.live == 0, what
    assert (stats.active, stats.running, stats.paused, stats.queued) == (0, 0, 0, 0), what
    assert stats.working_set_tokens == 0, what


async def ended(running):
    await asyncio.wait([running])
    return running.cancelled() or running.exception()


@every_build
@every_face
async def test_cancelled_at_any_await_every_place_is_given_back(build, face, complaints):
    cancelled = 0
    for point in range(POINTS):
        gate = ConcurGate(controller="fixed:1")
        running = asyncio.create_task(face(gate.graph(build(gate))))
        await steps(point)
        finished = running.done()
        running.cancel()
        cancelled += await ended(running) is True
        await all_places_are_back(gate, f"cancelled after {point} turns of the loop")
        if finished:
            break
    assert finished
    assert cancelled > 10


@every_build
async def test_cancelled_at_any_await_of_a_wait_for_another_agent_nothing_is_taken(build, complaints):
    for point in range(30):
        gate = ConcurGate(controller="fixed:1")
        first, second = (asyncio.create_task(ainvoke(gate.graph(build(gate)))) for _ in "ab")
        await steps(point)
        second.cancel()
        await asyncio.wait([first, second])
        assert first.exception() is None
        await all_places_are_back(gate, f"cancelled after {point} turns of the loop")


class Fails(Exception):
    """What a callback raises."""


def failing_at(nth, base):
    """A handler whose nth call fails, of whatever it is told of."""
    told = []

    class Failing(base):
        raise_error = True
        run_inline = True

    def make(name):
        def tell():
            told.append(name)
            if len(told) == nth:
                raise Fails(name)

        async def atells(self, *args, **kwargs):
            tell()

        def tells(self, *args, **kwargs):
            tell()

        return atells if base is AsyncCallbackHandler else tells

    for event in ("chain", "tool", "llm"):
        for moment in ("start", "end", "error"):
            setattr(Failing, f"on_{event}_{moment}", make(f"on_{event}_{moment}"))
    return Failing(), told


@every_build
@pytest.mark.parametrize("base", [AsyncCallbackHandler, BaseCallbackHandler])
async def test_failing_in_any_callback_every_place_is_given_back(build, base, complaints):
    for nth in range(1, 100):
        gate = ConcurGate(controller="fixed:1")
        handler, told = failing_at(nth, base)
        running = asyncio.create_task(gate.graph(build(gate)).ainvoke(INPUT, {**CONFIG, "callbacks": [handler]}))
        failed = await ended(running)
        await all_places_are_back(gate, f"failed in {told}")
        if len(told) < nth:
            break
        assert isinstance(failed, Fails), told
    assert nth > 5
    assert failed is None


@every_build
@pytest.mark.parametrize("leaving", ["closes", "breaks off", "breaks off in a cycle", "closes in another task"])
async def test_left_after_any_item_every_place_is_given_back(build, leaving, complaints):
    for items in range(POINTS):
        gate = ConcurGate(controller="fixed:1")
        stream = gate.graph(build(gate)).astream(INPUT, CONFIG, stream_mode="debug", subgraphs=True)
        read = 0
        while read < items and await anext(stream, None) is not None:
            read += 1
        if leaving == "closes":
            await stream.aclose()
        elif leaving == "closes in another task":
            await asyncio.create_task(stream.aclose())
        else:
            cycle = [stream]
            if leaving == "breaks off in a cycle":
                cycle.append(cycle)
            del stream, cycle
            gc.collect()
            await settle()
        await all_places_are_back(gate, f"left after {read} items")
        if read < items:
            break
    assert read < items
    assert read > 2


@every_build
@pytest.mark.parametrize("drain", [False, pytest.param(True, marks=since_1_2)])
async def test_closed_at_any_moment_the_gate_has_every_place_back(build, drain, complaints):
    came_to = set()
    for point in range(POINTS):
        gate = ConcurGate(controller="fixed:2")
        runs = [asyncio.create_task(ainvoke(gate.graph(build(gate), drain=drain))) for _ in "abc"]
        await steps(point)
        finished = all(run.done() for run in runs)
        await gate.aclose()
        await asyncio.wait(runs)
        for run in runs:
            error = run.exception()
            came_to.add(type(error))
            assert error is None or isinstance(error, GateClosed | DRAINED)
        await all_places_are_back(gate, f"closed after {point} turns of the loop")
        if finished:
            break
    assert finished
    assert {type(None), GateClosed} <= came_to


@since_1_2
async def test_a_run_of_the_third_version_that_is_dropped_gives_its_place_back_when_it_is_collected(complaints):
    gate = ConcurGate(controller="fixed:1")
    run = await gate.graph(loop_of_turns(gate)).astream_events(INPUT, CONFIG, version="v3")
    await anext(aiter(run))
    assert gate.admission.live == 1
    del run
    await settle()  # what read the item is closed by a task that still knows the run
    gc.collect()
    await all_places_are_back(gate, "collected")
