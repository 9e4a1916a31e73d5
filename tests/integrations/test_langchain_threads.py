"""LangChain's synchronous calls: in threads they take their turns, on an event loop they say what to do."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import AgentFinished, ConcurGate, GateClosed, WrongLoop
from concur_agents.control import Budget
from concur_agents.integrations import langchain_pauses
from concur_agents.integrations.langchain import ConcurCallbackHandler

from .langchain_agents import (
    FACES,
    QUESTION,
    Scripted,
    look_up,
    look_up_in_thread,
    settled,
    somebody_waits,
    ungated,
    with_limiter,
)

PROMPT = ChatPromptTemplate.from_template("Say {word}")


class State(TypedDict, total=False):
    seen: list[str]


@pytest.fixture
async def gate():
    async with ConcurGate(controller="fixed:1") as gate:
        yield gate
        assert await settled(gate)


@pytest.fixture
def config(gate):
    return {"callbacks": [ConcurCallbackHandler(gate)]}


def counts(gate):
    stats = gate.stats()
    return stats.finished, stats.turns


async def test_synchronous_nodes_and_tools_of_an_asynchronous_run_take_their_turns_from_threads(gate, config):
    @tool
    def ask(text: str) -> str:
        """Ask a model."""
        return Scripted(rounds=0).invoke("hi").content

    def node(state: State) -> State:
        return {"seen": [Scripted(rounds=0).invoke("hi").content]}

    await create_agent(Scripted(rounds=1), [ask]).ainvoke(QUESTION, config)
    assert counts(gate) == (1, 3)
    graph = StateGraph(State).add_node(node).add_edge(START, "node").compile()
    assert (await graph.ainvoke({"seen": []}, config))["seen"] == ["the answer"]
    assert counts(gate) == (2, 4)
    assert gate.stats().prompt_tokens == 100 + 100 + 200 + 100


async def test_a_thread_that_waits_is_told_that_the_gate_is_closed():
    gate = ConcurGate(controller="fixed:2")

    def node(state: State) -> State:
        model = Scripted(rounds=0)
        model.invoke("hi")
        gate.admission.resize(Budget(agents=1))
        return {"seen": [model.invoke("hi").content]}

    graph = StateGraph(State).add_node(node).add_edge(START, "node").compile()
    async with gate.agent("before"):
        config = {"callbacks": [ConcurCallbackHandler(gate)]}
        running = asyncio.create_task(graph.ainvoke({"seen": []}, config), context=contextvars.Context())
        await somebody_waits(gate)
        await gate.aclose()
        with pytest.raises(GateClosed):
            await running
    assert await settled(gate)


async def test_a_thread_that_waits_is_let_go_when_its_run_is_cancelled():
    gate = ConcurGate(controller="fixed:2")
    left = []

    def node(state: State) -> State:
        try:
            Scripted(rounds=0).invoke("hi")
            gate.admission.resize(Budget(agents=1))
            Scripted(rounds=0).invoke("hi")
        except AgentFinished as error:
            left.append(error)
        return {}

    graph = StateGraph(State).add_node(node).add_edge(START, "node").compile()
    async with gate.agent("before"):
        config = {"callbacks": [ConcurCallbackHandler(gate)]}
        running = asyncio.create_task(graph.ainvoke({"seen": []}, config), context=contextvars.Context())
        await somebody_waits(gate)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await settled(gate)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert left


@pytest.fixture
def sync_gate():
    gate = ConcurGate(controller="fixed:1")
    yield gate
    assert gate.admission.live == 0
    gate.sync.close()


@pytest.mark.parametrize("face", [*FACES.values()], ids=[*FACES])
def test_a_synchronous_run_in_a_thread_is_gated_too(face, sync_gate):
    graph = face(sync_gate, Scripted(), [look_up_in_thread])
    with sync_gate.sync.agent():
        assert graph.invoke(QUESTION)["messages"][-1].content == "the answer"
        assert list(graph.stream(QUESTION, stream_mode="values"))
    assert sync_gate.stats().turns == (0 if face is with_limiter else 6)


def test_a_synchronous_run_is_an_agent_and_the_next_one_is_another(sync_gate):
    config = {"callbacks": [ConcurCallbackHandler(sync_gate)]}
    graph = ungated(sync_gate, Scripted(), [look_up_in_thread])
    for runs in range(1, 4):
        assert graph.invoke(QUESTION, config)["messages"][-1].content == "the answer"
        assert counts(sync_gate) == (runs, 3 * runs)
    with pytest.raises(ConnectionError):
        ungated(sync_gate, Scripted(fails=True), [look_up_in_thread]).invoke(QUESTION, config)
    chain = PROMPT | Scripted(rounds=0)
    assert len(chain.batch([{"word": "hi"}] * 3, config)) == 3
    Scripted(rounds=0).invoke("hi", config)
    assert len(Scripted(rounds=0).generate([[HumanMessage("hi")]] * 3, **config).generations) == 3
    assert list(Scripted(rounds=0).stream("hi", config))
    stream = graph.stream(QUESTION, config, stream_mode="values")
    next(stream)
    stream.close()


def test_threads_run_one_synchronous_agent_after_the_other(sync_gate):
    config = {"callbacks": [ConcurCallbackHandler(sync_gate)]}
    graph = ungated(sync_gate, Scripted(), [look_up_in_thread])
    assert len(graph.batch([QUESTION] * 4, config)) == 4
    assert counts(sync_gate) == (4, 12)


async def test_a_synchronous_run_on_the_loops_own_thread_says_what_to_do(gate, config):
    for model in (Scripted(rounds=0), ungated(gate, Scripted(), [look_up])):
        with pytest.raises(WrongLoop, match=r"would block the event loop .* use `await …\.ainvoke\(…\)`"):
            model.invoke("hi" if model.get_name() == "Scripted" else QUESTION, config)
    assert PROMPT.invoke({"word": "hi"}, config).to_string() == "Human: Say hi"


async def test_a_synchronous_run_that_blocks_the_loop_from_threads_of_its_own_says_what_to_do(
    gate, config, monkeypatch
):
    monkeypatch.setattr(langchain_pauses, "ANSWER_LIMIT_S", 0.01)
    branches = RunnableParallel(a=Scripted(rounds=0), b=Scripted(rounds=0))
    async with gate.agent():
        with pytest.raises(WrongLoop, match=r"did not answer within .* use `await …\.ainvoke\(…\)`"):
            branches.invoke("hi", config)
