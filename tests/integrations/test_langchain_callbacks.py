"""The callback handler: which runs are agents, what belongs to them, and what ends when LangChain tells nothing."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents import ConcurGate
from concur_agents.integrations.langchain import ConcurCallbackHandler
from concur_agents.simulation.virtual_time import run

from .langchain_agents import (
    QUESTION,
    Scripted,
    gated_model,
    look_up,
    new_engine,
    settled,
    ungated,
)

PROMPT = ChatPromptTemplate.from_template("Say {word}")


@pytest.fixture
async def gate():
    async with ConcurGate(controller="fixed:1") as gate:
        yield gate
        assert await settled(gate)


@pytest.fixture
def handler(gate):
    handler = ConcurCallbackHandler(gate)
    yield handler
    assert (handler._runs, handler._calls) == ({}, {})


@pytest.fixture
def config(handler):
    return {"callbacks": [handler]}


def counts(gate):
    stats = gate.stats()
    return stats.finished, stats.turns


# ---------------------------------------------------------------- what is an agent


async def test_a_run_is_an_agent_by_its_name_and_its_model_calls_are_its_turns(gate, config):
    names = []

    @tool
    async def who() -> str:
        """Tell who runs."""
        names.append(gate.current().name)
        return "told"

    await ungated(gate, Scripted(), [look_up]).ainvoke(QUESTION, config)
    assert counts(gate) == (1, 3)
    chain = RunnableLambda(lambda _: {}) | who
    await chain.ainvoke({}, {**config, "run_name": "task-17"})
    assert names == ["task-17"]


async def test_a_batch_of_graphs_runs_one_agent_after_the_other(gate, config):
    assert len(await ungated(gate, Scripted(), [look_up]).abatch([QUESTION] * 4, config)) == 4
    assert counts(gate) == (4, 12)


async def test_a_run_whose_events_are_read_is_an_agent_by_the_handler_of_the_call(gate, config):
    stream = ungated(gate, Scripted(), [look_up]).astream_events(QUESTION, config, version="v2")
    assert [event async for event in stream]
    assert counts(gate) == (1, 3)


async def test_a_run_inside_an_agent_belongs_to_that(gate, config):
    async with gate.agent("mine") as mine:
        await ungated(gate, Scripted(), [look_up]).ainvoke(QUESTION, config)
    assert mine.turns == 3
    assert counts(gate) == (1, 3)


async def test_branches_subgraphs_and_agents_as_tools_are_one_agent(gate, config):
    inner = ungated(gate, Scripted(rounds=1), [look_up])

    @tool
    async def ask(text: str) -> str:
        """Ask another agent."""
        branches = RunnableParallel(a=inner, b=inner)
        return (await branches.ainvoke(QUESTION))["a"]["messages"][-1].content

    await create_agent(Scripted(rounds=1), [ask]).ainvoke(QUESTION, config)
    assert counts(gate) == (1, 2 + 2 * 2)


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]


async def test_a_fan_out_is_one_agent(gate, config):
    async def one(state: State) -> State:
        return {"seen": [(await Scripted(rounds=0).ainvoke("hi")).content]}

    builder = StateGraph(State).add_node(one)
    builder.add_conditional_edges(START, lambda _: [Send("one", {})] * 5, ["one"])
    assert len((await builder.compile().ainvoke({"seen": []}, config))["seen"]) == 5
    assert counts(gate) == (1, 5)


async def test_a_prompt_and_a_parser_alone_take_no_place(gate, config):
    await PROMPT.ainvoke({"word": "hi"}, config)
    await StrOutputParser().ainvoke("hi", config)
    assert counts(gate) == (0, 0)


async def test_chains_that_go_in_lock_step_do_not_wait_for_one_another(gate, config):
    chain = PROMPT | Scripted(rounds=0) | StrOutputParser()
    assert await chain.ainvoke({"word": "hi"}, config) == "the answer"
    assert counts(gate) == (1, 1)
    assert await chain.abatch([{"word": "hi"}] * 4, config) == ["the answer"] * 4
    assert await chain.abatch([{"word": "hi"}] * 4, config, return_exceptions=True) == ["the answer"] * 4
    assert counts(gate) == (9, 9)


async def test_graphs_in_chains_that_go_in_lock_step_are_agents(gate, config):
    chain = RunnableLambda(lambda _: QUESTION) | ungated(gate, Scripted(rounds=1), [look_up])
    await chain.abatch([{}] * 3, config)
    assert gate.stats().turns == 6


async def test_several_prompts_in_one_call_do_not_wait_for_one_another(gate, config):
    prompts = [[HumanMessage("hi")]] * 3
    assert len((await Scripted(rounds=0).agenerate(prompts, **config)).generations) == 3
    async with gate.agent() as agent:
        assert len((await Scripted(rounds=0).agenerate(prompts, **config)).generations) == 3
    assert (agent.turns, agent.prompt_tokens) == (3, 100)


async def test_the_handler_on_a_model_alone_makes_its_calls_turns(gate, handler):
    model = Scripted(rounds=0, callbacks=[handler])
    async with gate.agent() as agent:
        await asyncio.gather(*(model.ainvoke("hi") for _ in range(3)))
        assert [chunk async for chunk in model.astream("hi")]
        assert (agent.turns, agent.prompt_tokens, agent.cached_tokens) == (4, 400, 0)
    await model.ainvoke("hi", {"callbacks": [handler]})
    assert counts(gate) == (2, 5)


def test_a_gated_client_inside_a_run_finds_its_agent_in_every_branch():
    async def main():
        gate, engine = ConcurGate(controller="fixed:1"), new_engine()
        model = gated_model(gate, engine)
        config = {"callbacks": [ConcurCallbackHandler(gate)]}

        async def root(_):
            async def by_the_client():
                call = model.root_async_client.chat.completions.create
                return await call(model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=5)

            return await asyncio.gather(by_the_client(), model.ainvoke("hi"), by_the_client())

        await asyncio.gather(*(RunnableLambda(root).ainvoke({}, config) for _ in range(2)))
        assert await settled(gate)
        counted = engine.engine.counters()
        assert (gate.stats().finished, gate.stats().turns) == (2, 6)
        assert gate.stats().prompt_tokens == counted.prompt_tokens

    run(main())


async def test_a_stream_whose_items_are_fetched_by_one_task_each_stays_one_agent(gate, config):
    """What `asyncio.wait_for(anext(stream), …)` does before Python 3.12."""
    stream = ungated(gate, Scripted(), [look_up]).astream(QUESTION, config, stream_mode="values")

    async def step():
        return await anext(stream)

    items = 0
    while True:
        try:
            await asyncio.create_task(step())
        except StopAsyncIteration:
            break
        items += 1
    assert items == 6
    assert counts(gate) == (1, 3)


# ---------------------------------------------------------------- what tells of an end


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_a_call_that_timed_out_gives_its_place_back_while_its_task_goes_on(way, gate, config):
    model = Scripted(rounds=0, steps=10**9)
    for _ in range(3):
        try:
            async with asyncio.timeout(0.01):
                await called(model, way, config)
        except TimeoutError:
            pass
        assert await settled(gate)


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_a_call_that_timed_out_and_whose_error_is_kept_ends_with_the_next_one_of_its_task(way, gate, config):
    errors = []
    for _ in range(3):
        try:
            async with asyncio.timeout(0.01):
                await called(Scripted(rounds=0, steps=10**9), way, config)
        except TimeoutError as error:
            errors.append(error)
        assert gate.admission.live <= 1
    await called(Scripted(rounds=0), way, config)
    assert await settled(gate)
    assert len(errors) == 3


async def called(model, way, config):
    if way == "ainvoke":
        await model.ainvoke("hi", config)
    else:
        async for _ in model.astream("hi", config):
            pass


async def test_a_run_that_timed_out_gives_its_place_back_while_its_task_goes_on(gate, config):
    graph = ungated(gate, Scripted(steps=10**9), [look_up])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await graph.ainvoke(QUESTION, config)
    assert await settled(gate)


async def test_a_call_whose_error_is_kept_gives_its_place_back_with_its_task(gate, config):
    calls = [asyncio.create_task(Scripted(rounds=0, steps=10**9).ainvoke("hi", config)) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await settled(gate)


async def test_an_error_that_nobody_looks_at_is_still_logged_by_asyncio(gate, config):
    logged = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))
    failing = asyncio.create_task(ungated(gate, Scripted(fails=True), [look_up]).ainvoke(QUESTION, config))
    await asyncio.wait([failing])
    del failing
    assert await settled(gate)
    assert [message for message in logged if "never retrieved" in message]
