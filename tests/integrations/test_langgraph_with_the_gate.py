"""LangGraph with the real gate: a cap of one, no server."""

from __future__ import annotations

import asyncio
import operator
import subprocess
import sys
from typing import Annotated

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import ConcurGate
from concur_agents.errors import MissingExtra


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    messages: Annotated[list[AIMessage], operator.add]


@pytest.fixture
def gate():
    return ConcurGate(controller="fixed:1")


def idle(gate):
    stats = gate.stats()
    return (stats.active, stats.running, stats.paused, stats.queued) == (0, 0, 0, 0)


def agents_of(gate, *, turns=2):
    """A graph whose node is a turn, that loops, and that notes how many of it are active."""

    async def think(state: State) -> State:
        await asyncio.sleep(0)
        n = len(state["seen"])
        assert gate.stats().active == 1
        usage = {"input_tokens": 100 + 10 * n, "output_tokens": 5, "total_tokens": 105 + 10 * n}
        return {"seen": [gate.current().name], "messages": [AIMessage("", usage_metadata=usage)]}

    builder = StateGraph(State).add_node("think", gate.node(think)).add_edge(START, "think")
    builder.add_conditional_edges("think", lambda s: "think" if len(s["seen"]) < turns else "__end__")
    return gate.graph(builder.compile(name="thinker"))


async def test_a_batch_runs_one_agent_at_a_time_and_counts_its_turns_and_tokens(gate):
    graph = agents_of(gate)
    configs = [{"run_name": f"task-{n}"} for n in range(5)]
    results = await graph.abatch([{"seen": []}] * 5, configs)
    assert [r["seen"] for r in results] == [[f"task-{n}"] * 2 for n in range(5)]
    stats = gate.stats()
    assert (stats.finished, stats.turns, stats.prompt_tokens, stats.output_tokens) == (5, 10, 5 * 210, 5 * 10)
    assert idle(gate)


async def test_who_waits_is_told_by_the_name_of_the_run(gate):
    graph = agents_of(gate)
    async with gate.agent("other"):
        pass
    stream = graph.astream({"seen": []}, {"run_name": "first"})
    await anext(stream)
    waiting = asyncio.create_task(graph.ainvoke({"seen": []}, {"run_name": "second"}))
    for _ in range(20):
        await asyncio.sleep(0)
    assert [w.name for w in gate.waiting()] == ["second"]
    await stream.aclose()
    assert (await waiting)["seen"] == ["second"] * 2
    assert idle(gate)


async def test_a_fan_out_and_a_gated_subgraph_are_one_agent(gate):
    inner = agents_of(gate)

    async def one(state: State) -> State:
        return await inner.ainvoke({"seen": []})

    builder = StateGraph(State).add_node(one)
    builder.add_conditional_edges(START, lambda _: [Send("one", {})] * 3, ["one"])
    result = await gate.graph(builder.compile(name="outer")).ainvoke({"seen": []})
    assert result["seen"] == ["thinker"] * 6
    assert gate.stats().finished == 1
    assert gate.stats().turns == 6
    assert idle(gate)


async def test_an_error_an_interrupt_and_a_reader_that_leaves_give_the_place_back(gate):
    def ask(state: State) -> State:
        return {"seen": [interrupt("who?")]}

    with pytest.raises(GraphRecursionError):
        await agents_of(gate, turns=9).with_config(recursion_limit=2).ainvoke({"seen": []})
    assert idle(gate)
    builder = StateGraph(State).add_node("ask", gate.node(ask)).add_edge(START, "ask")
    asking = gate.graph(builder.compile(checkpointer=InMemorySaver()))
    config = {"configurable": {"thread_id": "t"}}
    await asking.ainvoke({"seen": []}, config)
    assert idle(gate)
    assert (await asking.ainvoke(Command(resume="me"), config))["seen"] == ["me"]
    async for _ in agents_of(gate).astream({"seen": []}):
        break
    for _ in range(20):
        await asyncio.sleep(0)
    assert idle(gate)


@pytest.mark.parametrize("face", ["ainvoke", "astream"])
async def test_a_cancellation_at_any_point_returns_the_place_once(gate, face):
    graph = agents_of(gate)

    async def run():
        if face == "ainvoke":
            return await graph.ainvoke({"seen": []})
        return [item async for item in graph.astream({"seen": []})]

    for point in range(1000):
        running = asyncio.create_task(run())
        for _ in range(point):
            await asyncio.sleep(0)
        finished = running.done()
        running.cancel()
        await asyncio.wait([running])
        assert idle(gate), f"cancelled after {point} turns of the loop"
        if finished:
            break
    assert finished
    assert (await graph.ainvoke({"seen": []}))["seen"] == ["thinker"] * 2


@pytest.mark.parametrize("leaving", ["breaks off", "keeps its stream"])
def test_a_reader_that_leaves_as_its_loop_ends_gives_the_place_back(gate, leaving):
    kept = []

    async def first(state: State) -> State:
        return {"seen": ["first"]}

    async def slow_to_leave(state: State) -> State:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)

    builder = StateGraph(State).add_node(first).add_node(slow_to_leave)
    graph = gate.graph(builder.add_edge(START, "first").add_edge(START, "slow_to_leave").compile())

    async def main():
        # Only what becomes of the place is looked at: the loop complains of generators that close one another.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        stream = graph.astream({"seen": []})
        if leaving == "keeps its stream":
            kept.append(stream)
        await anext(stream)
        assert gate.stats().active == 1

    asyncio.run(main())
    assert idle(gate)
    assert len(asyncio.run(agents_of(gate).ainvoke({"seen": []}))["seen"]) == 2


@pytest.mark.parametrize(("door", "module"), [("graph", "langgraph"), ("node", "langgraph_node")])
def test_without_langgraph_the_extra_to_install_is_named(gate, door, module, monkeypatch):
    for name in ("langgraph", "langgraph.pregel", "langgraph.types"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"concur_agents.integrations.{module}", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'concur-agents\[langgraph\]'"):
        getattr(gate, door)(None)


def test_importing_the_package_imports_no_langgraph():
    look = "import sys, concur_agents; print([m for m in sys.modules if m.startswith(('langgraph', 'langchain'))])"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
