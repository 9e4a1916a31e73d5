"""A resumed agent is known again: by the name, the size, the session and the turns that it had on its thread."""

from __future__ import annotations

import asyncio
import gc
import operator
import weakref
from types import SimpleNamespace
from typing import Annotated

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import Budget, ConcurGate
from concur_agents.integrations.langgraph_threads import Thread, Threads, threads_of

from .langgraph_standins import another_agent


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    messages: Annotated[list[AIMessage], operator.add]


class Tokens:
    """A controller with a fixed budget of tokens."""

    name = "tokens"
    needs_metrics = False

    def __init__(self, tokens):
        self.tokens = tokens

    def decide(self, pool, engine, now):
        return Budget(tokens=self.tokens, admit_turns=0, reason="as told")


def answer(prompt, output=10):
    return AIMessage(
        "", usage_metadata={"input_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output}
    )


def asker(gate, met=None, *, prompts=(500, 600), name="asker", **compiled_with):
    """Thinks, asks, and thinks again; notes the agents that it meets."""

    def thinks(prompt):
        async def think(state: State) -> State:
            agent = gate.current()
            if met is not None:
                met.append((agent.name, agent.kind, agent.session_id, agent.turns, agent.place.footprint))
            return {"messages": [answer(prompt)], "seen": [f"{prompt}"]}

        return gate.node(think)

    async def ask(state: State) -> State:
        return {"seen": [interrupt("who?")]}

    builder = StateGraph(State).add_node("before", thinks(prompts[0])).add_node("ask", ask)
    builder.add_node("after", thinks(prompts[1])).add_edge(START, "before").add_edge("before", "ask")
    builder.add_edge("ask", "after")
    return builder.compile(name=name, **{"checkpointer": InMemorySaver(), **compiled_with})


def thread(name="t", **config):
    return {"configurable": {"thread_id": name}, **config}


@pytest.fixture
def gate():
    return ConcurGate(controller="fixed:1")


async def test_a_resumed_run_is_the_same_agent_of_its_last_size(gate):
    met = []
    graph = gate.graph(asker(gate, met))
    await graph.ainvoke({"seen": []}, thread(run_name="task-17"))
    assert gate.admission.live == 0
    result = await graph.ainvoke(Command(resume="me"), thread())
    assert result["seen"] == ["500", "me", "600"]
    before, after = met
    assert before[:2] == after[:2] == ("task-17", "asker")
    assert before[2] == after[2]
    assert before[3:] == (0, 0.0)
    assert after[3:] == (1, 510.0)
    assert gate.stats().finished == 2
    assert gate.admission.live == 0


async def test_a_name_that_is_given_anew_is_the_one_from_then_on(gate):
    met = []
    graph = gate.graph(asker(gate, met))
    await graph.ainvoke({"seen": []}, thread(run_name="first"))
    await graph.ainvoke(Command(resume="me"), thread(run_name="second"))
    await graph.ainvoke({"seen": []}, thread())
    assert [name for name, *_ in met] == ["first", "second", "second"]


async def test_a_resumed_agent_waits_for_room_of_its_size_and_not_of_a_new_one():
    gate = ConcurGate(controller=Tokens(1000))
    graph = gate.graph(asker(gate, prompts=(700, 800)))
    await graph.ainvoke({"seen": []}, thread())
    async with another_agent(gate, 400.0):
        small = asyncio.create_task(graph.ainvoke({"seen": []}, thread("small")))
        resumed = asyncio.create_task(graph.ainvoke(Command(resume="me"), thread()))
        for _ in range(30):
            await asyncio.sleep(0)
        waiting = {waiting.name: waiting.footprint for waiting in gate.waiting()}
        assert waiting["t"] == 710.0
    await resumed
    await small
    assert gate.admission.live == 0


async def test_the_first_turn_after_a_resumption_teaches_no_first_prompt(gate):
    graph = gate.graph(asker(gate, prompts=(500, 9000)))
    await graph.ainvoke({"seen": []}, thread())
    await graph.ainvoke(Command(resume="me"), thread())
    assert gate._kind("asker").first_prompt.value == 500
    assert gate._kind("asker").first_prompt.count == 1


async def test_a_run_that_told_no_tokens_keeps_the_size_it_had(gate):
    met = []
    graph = gate.graph(asker(gate, met))
    await graph.ainvoke({"seen": []}, thread())
    await graph.ainvoke(None, thread())  # asks again, without a turn
    await graph.ainvoke(Command(resume="me"), thread())
    assert met[-1][4] == 510.0


async def test_a_run_cut_by_an_error_is_known_again(gate):
    met = []
    graph = gate.graph(asker(gate, met))
    with pytest.raises(RecursionError):
        await graph.ainvoke({"seen": []}, thread(recursion_limit=1))
    await graph.ainvoke({"seen": []}, thread())
    assert met[1][3:] == (1, 510.0)


async def test_threads_graphs_and_gates_are_kept_apart(gate):
    met = []
    graph = gate.graph(asker(gate, met))
    await graph.ainvoke({"seen": []}, thread())
    await graph.ainvoke({"seen": []}, thread("another"))
    await gate.graph(asker(gate, met, name="other")).ainvoke({"seen": []}, thread())
    other = ConcurGate(controller="fixed:1")
    await other.graph(asker(other, met)).ainvoke({"seen": []}, thread())
    assert [turns for *_, turns, _ in met] == [0, 0, 0, 0]
    assert len({session for _, _, session, *_ in met}) == 4


async def test_a_graph_that_is_wrapped_anew_for_each_request_knows_its_agents(gate):
    met, saver = [], InMemorySaver()
    await gate.graph(asker(gate, met, checkpointer=saver)).ainvoke({"seen": []}, thread())
    await gate.graph(asker(gate, met, checkpointer=saver)).ainvoke(Command(resume="me"), thread())
    assert met[1][3:] == (1, 510.0)


async def test_without_a_checkpointer_nothing_is_resumed_and_nobody_remembered(gate):
    graph = gate.graph(asker(gate, checkpointer=None))
    await graph.ainvoke({"seen": []}, thread())
    await gate.graph(asker(gate)).with_config(**thread("bound")).ainvoke({"seen": []})
    assert len(threads_of(gate)) == 1


async def test_a_run_inside_an_agent_is_that_agent_and_not_remembered(gate):
    graph = gate.graph(asker(gate))
    async with gate.agent("outer"):
        await graph.ainvoke({"seen": []}, thread())
    assert len(threads_of(gate)) == 0


async def test_a_gated_node_of_an_ungated_graph_is_known_again_when_it_is_resumed(gate):
    met = []
    child = gate.graph(asker(gate, met, checkpointer=None))
    parent = StateGraph(State).add_node("child", child).add_edge(START, "child").compile(checkpointer=InMemorySaver())
    await parent.ainvoke({"seen": []}, thread())
    await parent.ainvoke(Command(resume="me"), thread())
    assert met[1][3:] == (1, 510.0)


async def test_a_cancelled_wait_forgets_nothing():
    gate = ConcurGate(controller="fixed:1")
    met = []
    graph = gate.graph(asker(gate, met))
    await graph.ainvoke({"seen": []}, thread())
    async with another_agent(gate):
        waiting = asyncio.create_task(graph.ainvoke(Command(resume="me"), thread()))
        for _ in range(10):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    await graph.ainvoke(Command(resume="me"), thread())
    assert met[1][3:] == (1, 510.0)


def agent(name, **told):
    return SimpleNamespace(name=name, session_id="s", turns=1, footprint=5.0, prompt_tokens=5, **told)


def test_the_thread_that_ran_longest_ago_is_forgotten_first():
    threads = Threads(limit=3)
    for name in "abcadb":
        threads.remember(Thread("kind", name, ""), agent(name))
    assert len(threads) == 3
    known = [threads.recall(Thread("kind", name, "")) for name in "abcd"]
    assert [k and k.name for k in known] == ["a", "b", None, "d"]


def test_a_gate_that_is_gone_is_forgotten_with_its_threads():
    gate = ConcurGate(controller="fixed:1")
    threads_of(gate).remember(Thread("kind", "t", ""), agent("a"))
    gone = weakref.ref(gate)
    del gate
    gc.collect()
    assert gone() is None
