"""A gated graph that is run synchronously, in a thread, is an agent as well."""

from __future__ import annotations

import asyncio
import gc
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import ConcurGate


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]


@pytest.fixture
def gate():
    gate = ConcurGate(controller="fixed:1")
    yield gate
    assert gate.admission.live == 0
    gate.sync.close()


def steps(gate, *, most=None, **compiled_with):
    """Two steps that note the agent, and the most that were active."""

    def step(state: State) -> State:
        if most is not None:
            most.append(gate.stats().active)
        return {"seen": [gate.current().name]}

    builder = StateGraph(State).add_node("one", step).add_node("two", step)
    return builder.add_edge(START, "one").add_edge("one", "two").compile(name="steps", **compiled_with)


def named(name):
    return {"run_name": name}


def test_invoke_stream_and_batch_are_agents_one_at_a_time(gate):
    most = []
    graph = gate.graph(steps(gate, most=most))
    assert graph.invoke({"seen": []}, named("a"))["seen"] == ["a", "a"]
    assert [list(item) for item in graph.stream({"seen": []}, stream_mode="updates")] == [["one"], ["two"]]
    results = graph.batch([{"seen": []}] * 4, [named(str(n)) for n in range(4)])
    assert [result["seen"] for result in results] == [[str(n)] * 2 for n in range(4)]
    assert len(list(graph.batch_as_completed([{"seen": []}] * 3))) == 3
    assert set(most) == {1}
    assert gate.stats().finished == 9


def test_threads_of_a_pool_wait_for_one_another(gate):
    most = []
    graph = gate.graph(steps(gate, most=most))
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(graph.invoke, {"seen": []}, named(str(n))) for n in range(8)]
        assert [run.result()["seen"][0] for run in runs] == [str(n) for n in range(8)]
    assert set(most) == {1}


def test_a_fan_out_and_a_gated_subgraph_are_one_agent(gate):
    inner = gate.graph(steps(gate))

    def one(state: State) -> State:
        return inner.invoke({"seen": []}, named("inner"))

    builder = StateGraph(State).add_node(one).add_node("child", inner)
    builder.add_conditional_edges(START, lambda _: [Send("one", {})] * 3, ["one"]).add_edge("one", "child")
    result = gate.graph(builder.compile()).invoke({"seen": []}, named("outer"))
    assert len(result["seen"]) == 14
    assert gate.stats().finished == 1


def test_an_interrupt_gives_the_place_back_and_a_resumed_agent_is_known_again(gate):
    sessions = []

    def ask(state: State) -> State:
        sessions.append(gate.current().session_id)
        return {"seen": [gate.current().name, interrupt("who?")]}

    builder = StateGraph(State).add_node(ask).add_edge(START, "ask")
    graph = gate.graph(builder.compile(checkpointer=InMemorySaver()))
    config = {"configurable": {"thread_id": "t"}}
    assert "__interrupt__" in graph.invoke({"seen": []}, {**config, **named("task-17")})
    assert gate.admission.live == 0
    assert graph.invoke(Command(resume="me"), config)["seen"] == ["task-17", "me"]
    assert len(set(sessions)) == 1


def test_a_workflow_and_its_tasks_are_one_agent(gate):
    @task
    def double(n: int) -> int:
        assert gate.current() is not None
        return 2 * n

    @entrypoint()
    def work(n: int) -> int:
        return sum(doubled.result() for doubled in [double(n), double(n + 1)])

    assert gate.graph(work).invoke(1) == 6
    assert gate.stats().finished == 1


def test_an_error_and_a_recursion_limit_give_the_place_back(gate):
    def fails(state: State) -> State:
        raise LookupError("no such city")

    builder = StateGraph(State).add_node(fails).add_edge(START, "fails")
    with pytest.raises(LookupError):
        gate.graph(builder.compile()).invoke({"seen": []})
    assert gate.admission.live == 0
    with pytest.raises(GraphRecursionError):
        gate.graph(steps(gate)).invoke({"seen": []}, {"recursion_limit": 1})


@pytest.mark.parametrize("how", ["closes", "breaks off", "closes in another thread", "never reads"])
def test_a_reader_that_leaves_gives_the_place_back(gate, how):
    stream = gate.graph(steps(gate)).stream({"seen": []}, stream_mode="updates")
    if how != "never reads":
        next(stream)
        assert gate.stats().active == 1
        assert gate.current() is None
    if how == "closes":
        stream.close()
    elif how == "closes in another thread":
        closing = threading.Thread(target=stream.close)
        closing.start()
        closing.join()
    del stream
    gc.collect()
    assert gate.admission.live == 0


async def test_a_synchronous_node_of_an_asynchronous_run_may_call_a_gated_graph():
    gate = ConcurGate(controller="fixed:1")
    inner = gate.graph(steps(gate))

    def calls(state: State) -> State:
        return inner.invoke({"seen": []})

    builder = StateGraph(State).add_node(calls).add_edge(START, "calls")
    async with asyncio.timeout(10):
        result = await gate.graph(builder.compile()).ainvoke({"seen": []})
    assert len(result["seen"]) == 2
    assert gate.stats().finished == 1
    assert gate.admission.live == 0
