"""With `drain=True`, a run that is paused when its gate closes stops at its checkpoint, and goes on under another."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated

import pytest
from langgraph import errors
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import Budget, ConcurGate, GateClosed
from concur_agents.errors import MissingExtra

from .langgraph_standins import another_agent, since_1_2

pytestmark = since_1_2
GraphDrained = getattr(errors, "GraphDrained", GateClosed)


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]


class Told:
    """A controller that decides what it is told."""

    name = "told"
    needs_metrics = False
    agents = 2

    def decide(self, pool, engine, now):
        return Budget(agents=self.agents, reason="as told")


THREAD = {"configurable": {"thread_id": "t"}}


async def settle():
    for _ in range(100):
        await asyncio.sleep(0)


def gate_of_two():
    return ConcurGate(controller=Told())


async def pause_all_but_one(gate):
    gate.admission.resize(Budget(agents=1, reason="less"))
    await settle()


class Room:
    """A graph of two steps that is about to begin its second turn, and an older agent that keeps the only place."""

    def __init__(self, saver=None, **wrapped_with):
        self.gate, self.go, self.ran = gate_of_two(), asyncio.Event(), []
        self.saver = saver or InMemorySaver()
        self.graph = self.gate.graph(self.build(self.gate), **wrapped_with)

    def build(self, gate):
        async def first(state: State) -> State:
            self.ran.append("first")
            await self.go.wait()
            return {"seen": ["first"]}

        async def second(state: State) -> State:
            self.ran.append("second")
            return {"seen": ["second"]}

        policy = RetryPolicy(initial_interval=0, jitter=False)
        builder = StateGraph(State).add_node("first", gate.node(first))
        builder.add_node("second", gate.node(second), retry_policy=policy)
        return builder.add_edge(START, "first").add_edge("first", "second").compile(checkpointer=self.saver)

    async def closed_while_paused(self):
        """What the run comes to."""
        async with another_agent(self.gate, 1000.0):
            running = asyncio.create_task(self.graph.ainvoke({"seen": []}, THREAD))
            await settle()
            await pause_all_but_one(self.gate)
            self.go.set()
            await settle()
            assert self.gate.stats().paused == 1
            await self.gate.aclose()
            await asyncio.wait([running])
        assert self.gate.admission.live == 0
        return running


async def test_a_paused_run_drains_and_goes_on_under_another_gate():
    room = Room(drain=True)
    stopped = await room.closed_while_paused()
    with pytest.raises(GraphDrained, match=r"gate was closed.*ainvoke\(None, config\)"):
        stopped.result()
    assert isinstance(stopped.exception().__cause__, GateClosed)
    state = await room.graph.aget_state(THREAD)
    assert (state.values["seen"], state.next, state.tasks[0].error) == (["first"], ("second",), None)
    again = gate_of_two()
    result = await again.graph(room.build(again), drain=True).ainvoke(None, THREAD)
    assert result["seen"] == ["first", "second"]
    assert room.ran == ["first", "second"]
    assert again.admission.live == 0


async def test_without_draining_a_paused_run_fails_as_the_gate_says():
    stopped = await Room().closed_while_paused()
    with pytest.raises(GateClosed):
        stopped.result()


async def test_a_run_that_was_never_admitted_has_no_checkpoint_to_drain_to():
    room = Room(drain=True)
    async with another_agent(room.gate):
        room.gate.admission.resize(Budget(agents=1, reason="less"))
        waiting = asyncio.create_task(room.graph.ainvoke({"seen": []}, THREAD))
        await settle()
        await room.gate.aclose()
        with pytest.raises(GateClosed):
            await waiting
    assert room.ran == []
    assert room.gate.admission.live == 0


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_branches_beside_the_paused_one_end_their_step_and_are_not_run_again(durability):
    gate, ran, saver = gate_of_two(), [], InMemorySaver()
    go, slow_in, slow_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def build(gate):
        async def slow(state: State) -> State:
            ran.append("slow")
            slow_in.set()
            await slow_go.wait()
            return {"seen": ["slow"]}

        async def thinks(state: State) -> State:
            await go.wait()
            async with gate.turn():
                ran.append("thinks")
            return {"seen": ["thought"]}

        async def last(state: State) -> State:
            return {"seen": ["last"]}

        builder = StateGraph(State).add_node(slow).add_node(thinks).add_node(last)
        builder.add_edge(START, "slow").add_edge(START, "thinks").add_edge(["slow", "thinks"], "last")
        return builder.compile(checkpointer=saver)

    graph = gate.graph(build(gate), drain=True)
    async with another_agent(gate, 1000.0):
        running = asyncio.create_task(graph.ainvoke({"seen": []}, THREAD, durability=durability))
        await slow_in.wait()
        await pause_all_but_one(gate)
        go.set()
        await settle()
        assert gate.stats().paused == 1
        await gate.aclose()
        await settle()
        assert not running.done()
        slow_go.set()
        with pytest.raises(GraphDrained):
            await running
    assert ran == ["slow"]
    again = gate_of_two()
    result = await again.graph(build(again)).ainvoke(None, THREAD)
    assert sorted(result["seen"]) == ["last", "slow", "thought"]
    assert ran == ["slow", "thinks"]
    assert gate.admission.live == again.admission.live == 0


async def test_a_turn_in_a_subgraph_and_in_an_agent_inside_drains_the_whole_run():
    gate, go, saver = gate_of_two(), asyncio.Event(), InMemorySaver()

    def build(gate):
        async def thinks(state: State) -> State:
            await go.wait()
            return {"seen": ["thought"]}

        async def again(state: State) -> State:
            return {"seen": ["again"]}

        inner = StateGraph(State).add_node("thinks", thinks).add_node("again", gate.node(again))
        inner = gate.graph(inner.add_edge(START, "thinks").add_edge("thinks", "again").compile())
        builder = StateGraph(State).add_node("inner", inner)
        return builder.add_edge(START, "inner").compile(checkpointer=saver)

    graph = gate.graph(build(gate), drain=True)
    async with another_agent(gate, 1000.0):
        running = asyncio.create_task(graph.ainvoke({"seen": []}, THREAD))
        await settle()
        await pause_all_but_one(gate)
        go.set()
        await settle()
        await gate.aclose()
        with pytest.raises(GraphDrained):
            await running
    other = gate_of_two()
    assert (await other.graph(build(other)).ainvoke(None, THREAD))["seen"] == ["thought", "again"]
    assert gate.admission.live == other.admission.live == 0


async def test_a_subgraph_beside_the_paused_one_stops_at_its_next_step_and_goes_on_from_there():
    gate, go, slow_go, saver, ran = gate_of_two(), asyncio.Event(), asyncio.Event(), InMemorySaver(), []

    def build(gate):
        async def thinks(state: State) -> State:
            await go.wait()
            async with gate.turn():
                ran.append("thinks")
            return {"seen": ["thought"]}

        async def slow(state: State) -> State:
            ran.append("slow")
            await slow_go.wait()
            return {"seen": ["slow"]}

        async def next_step(state: State) -> State:
            ran.append("next")
            return {"seen": ["next"]}

        beside = StateGraph(State).add_node("slow", slow).add_node("next", next_step)
        beside.add_edge(START, "slow").add_edge("slow", "next")
        builder = StateGraph(State).add_node("thinks", thinks).add_node("beside", beside.compile())
        return builder.add_edge(START, "thinks").add_edge(START, "beside").compile(checkpointer=saver)

    graph = gate.graph(build(gate), drain=True)
    async with another_agent(gate, 1000.0):
        running = asyncio.create_task(graph.ainvoke({"seen": []}, THREAD))
        await settle()
        await pause_all_but_one(gate)
        go.set()
        await settle()
        await gate.aclose()
        await settle()
        slow_go.set()
        with pytest.raises(GraphDrained):
            await running
    assert ran == ["slow"]
    other = gate_of_two()
    result = await other.graph(build(other)).ainvoke(None, THREAD)
    assert sorted(result["seen"]) == ["next", "slow", "thought"]
    assert sorted(ran) == ["next", "slow", "thinks"]
    assert gate.admission.live == other.admission.live == 0


async def test_a_fan_out_drains_as_one_agent():
    gate, go, saver, ran = gate_of_two(), asyncio.Event(), InMemorySaver(), []

    def build(gate):
        async def one(state: State) -> State:
            await go.wait()
            async with gate.turn():
                ran.append("one")
            return {"seen": ["one"]}

        builder = StateGraph(State).add_node(one)
        builder.add_conditional_edges(START, lambda _: [Send("one", {})] * 5, ["one"])
        return builder.compile(checkpointer=saver)

    graph = gate.graph(build(gate), drain=True)
    async with another_agent(gate, 1000.0):
        running = asyncio.create_task(graph.ainvoke({"seen": []}, THREAD))
        await settle()
        await pause_all_but_one(gate)
        go.set()
        await settle()
        await gate.aclose()
        with pytest.raises(GraphDrained):
            await running
    assert ran == []
    other = gate_of_two()
    assert (await other.graph(build(other)).ainvoke(None, THREAD))["seen"] == ["one"] * 5
    assert gate.admission.live == other.admission.live == 0


# ---------------------------------------------------------------------------- mistakes


def test_a_graph_without_checkpoints_cannot_drain():
    builder = StateGraph(State).add_node("one", lambda _: {}).add_edge(START, "one")
    with pytest.raises(ValueError, match=r"compile\(checkpointer=…\)"):
        gate_of_two().graph(builder.compile(), drain=True)


def test_a_langgraph_without_draining_is_told(monkeypatch):
    monkeypatch.delattr(errors, "GraphDrained")
    builder = StateGraph(State).add_node("one", lambda _: {}).add_edge(START, "one")
    with pytest.raises(MissingExtra, match=r"langgraph>=1\.2"):
        gate_of_two().graph(builder.compile(checkpointer=InMemorySaver()), drain=True)


async def test_a_graph_wrapped_again_keeps_draining_and_its_kind():
    gate = gate_of_two()
    builder = StateGraph(State).add_node("one", lambda _: {"seen": ["x"]}).add_edge(START, "one")
    plain = builder.compile(checkpointer=InMemorySaver())
    gated = gate.graph(plain, kind="solver")
    drains = gate.graph(gated, drain=True)
    assert gate.graph(drains) is drains
    assert drains._concur_agents.kind == "solver"
    assert gate.graph(drains, kind="judge")._concur_agents.drain
