"""`chat_openai` and the middleware's turns, on the embedded engine and in virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from concur_agents import ConcurGate, MissingExtra, WrongLoop
from concur_agents.integrations import langchain
from concur_agents.integrations.langchain import ConcurMiddleware, chat_openai, gate_rate_limiter
from concur_agents.simulation.virtual_time import run

from .langchain_agents import QUESTION, Scripted, gated_model, idle, look_up, new_engine, plain_model, settled


@pytest.fixture
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class Verdict(BaseModel):
    good: bool


async def streamed(runnable):
    whole = None
    async for chunk in runnable.astream("Say something."):
        whole = chunk if whole is None else whole + chunk
    return whole


async def items(runnable):
    return [item async for item in runnable.astream("Say something.")]


CALLS = {
    "ainvoke": lambda model: model.ainvoke("Say something."),
    "astream": streamed,
    "bind_tools": lambda model: model.bind_tools([look_up]).ainvoke("Say something."),
    "structured output": lambda model: model.with_structured_output(Verdict).ainvoke("Say something."),
    "structured stream": lambda model: items(model.with_structured_output(Verdict)),
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain dumps parsed chunks, gated or not
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_call_is_a_turn_with_the_usage_that_the_engine_counted(call):
    async def main():
        gate, engine = ConcurGate(controller="fixed:1"), new_engine()
        model = gated_model(gate, engine)
        async with gate.agent() as agent:
            assert await call(model)
        counted = engine.engine.counters()
        assert (agent.turns, agent.prompt_tokens, agent.output_tokens) == (
            1,
            counted.prompt_tokens,
            counted.generation_tokens,
        )
        assert await settled(gate)

    run(main())


def test_a_stream_shows_its_usage_as_it_does_with_stream_usage():
    async def main():
        model = gated_model(ConcurGate(controller="none"), new_engine())
        plain = plain_model(new_engine())
        assert (await streamed(model)).usage_metadata == (await streamed(plain)).usage_metadata is not None
        assert (await streamed(gated_model(ConcurGate(controller="none"), new_engine(), stream_usage=False))).content

    run(main())


def test_calls_cancelled_at_any_time_lose_no_place():
    async def main():
        gate, engine = ConcurGate(controller="fixed:1"), new_engine()
        model = gated_model(gate, engine)
        for delay in [n * 0.17 for n in range(1, 40)]:
            calls = [asyncio.create_task(call(model)) for call in (CALLS["ainvoke"], streamed, CALLS["bind_tools"])]
            await asyncio.sleep(delay)
            for task in calls:
                task.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert await settled(gate), f"cancelled after {delay:.2f} s"

    run(main())


@pytest.mark.usefixtures("no_key")
def test_the_address_is_the_gates_and_the_key_is_none(monkeypatch):
    for url in ("http://one:8000", "http://one:8000/", "http://one:8000/v1", "http://one:8000/metrics"):
        model = chat_openai(ConcurGate(url), model="tiny")
        assert str(model.root_async_client.base_url) == str(model.root_client.base_url) == "http://one:8000/v1/"
        assert model.root_async_client.api_key == "EMPTY"
    gate = ConcurGate("http://one:8000")
    assert chat_openai(gate, model="tiny", api_key="mine").root_async_client.api_key == "mine"
    assert chat_openai(gate, model="tiny", openai_api_key="mine").root_async_client.api_key == "mine"
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    model = chat_openai(gate, model="tiny", base_url="http://two/v1", timeout=7, max_retries=5)
    client = model.root_async_client
    assert (client.api_key, str(client.base_url)) == ("of the environment", "http://two/v1/")
    assert (client.timeout, client.max_retries) == (7, 5)


def test_a_gate_without_a_server_asks_for_the_address():
    with pytest.raises(ValueError, match=r"give chat_openai\(\) a base_url, such as http://localhost:8000/v1"):
        chat_openai(ConcurGate(controller="fixed:1"), model="tiny")


async def test_a_synchronous_call_on_the_event_loop_says_what_to_do():
    model = gated_model(ConcurGate(controller="fixed:1"), new_engine())
    with pytest.raises(WrongLoop, match="await"):
        model.invoke("hi")


# ---------------------------------------------------------------- the middleware


async def test_outside_an_agent_the_middleware_says_once_what_to_write(caplog):
    gate = ConcurGate(controller="fixed:1")
    graph = create_agent(Scripted(), [look_up], middleware=[ConcurMiddleware(gate, kind="critic")])
    for _ in range(2):
        await graph.ainvoke(QUESTION)
    (record,) = caplog.records
    assert "agent = gate.graph(create_agent(…))" in record.message
    assert (gate.stats().finished, gate.stats().turns) == (6, 6)
    assert set(gate._kinds) == {"critic"}


async def test_inside_an_agent_the_middleware_says_nothing_and_sees_tool_waits(caplog):
    gate = ConcurGate(controller="fixed:1")
    graph = create_agent(Scripted(), [look_up], middleware=[ConcurMiddleware(gate)])
    async with gate.agent() as agent:
        await graph.ainvoke(QUESTION)
        assert agent.footprint == 310
    assert not caplog.records
    assert (agent.turns, agent.prompt_tokens, agent.cached_tokens) == (3, 600, 300)
    assert agent.tool_wait_s > 0


def test_a_gated_client_under_the_middleware_takes_no_second_turn():
    async def main():
        gate, engine = ConcurGate(controller="fixed:1"), new_engine()
        graph = create_agent(gated_model(gate, engine), [look_up], middleware=[ConcurMiddleware(gate)])
        async with gate.agent() as agent:
            await graph.ainvoke(QUESTION)
        assert agent.turns == engine.engine.counters().first_tokens == 3

    run(main())


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"input_tokens": -1, "output_tokens": 2}, {"input_tokens": "5", "output_tokens": 2}],
)
async def test_an_answer_without_a_usable_usage_leaves_the_turn_unweighed(usage):
    gate = ConcurGate(controller="fixed:1")
    middleware = ConcurMiddleware(gate)

    async def answer(_):
        message = AIMessage("hi")
        object.__setattr__(message, "usage_metadata", usage)
        return message

    async with gate.agent() as agent:
        await middleware.awrap_model_call(None, answer)
    assert (agent.turns, agent.prompt_tokens) == (1, 0)


# ---------------------------------------------------------------- the rate limiter


async def test_the_rate_limiter_lets_through_who_has_a_place_and_counts_no_turn():
    gate = ConcurGate(controller="fixed:1")
    limiter = gate_rate_limiter(gate)
    async with gate.agent() as agent:
        assert await limiter.aacquire()
        assert await limiter.aacquire(blocking=False)
        async with agent.turn() as turn:
            assert await limiter.aacquire()
            assert not turn.ended
    assert agent.turns == 1
    assert idle(gate)


async def test_outside_an_agent_the_rate_limiter_waits_for_room_and_takes_none():
    gate = ConcurGate(controller="fixed:1")
    limiter = gate_rate_limiter(gate)
    async with gate.agent():
        outside = contextvars.Context()
        assert not await asyncio.create_task(limiter.aacquire(blocking=False), context=outside)
        waiting = asyncio.create_task(limiter.aacquire(), context=outside)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert not await asyncio.to_thread(outside.copy().run, lambda: limiter.acquire(blocking=False))
    assert await waiting
    assert await asyncio.to_thread(limiter.acquire)
    assert idle(gate)


async def test_the_rate_limiter_does_not_block_an_event_loop():
    with pytest.raises(WrongLoop, match=r"use `await …\.ainvoke\(…\)`"):
        gate_rate_limiter(ConcurGate(controller="fixed:1")).acquire()


# ---------------------------------------------------------------- the module


@pytest.mark.parametrize("name", langchain.__all__)
def test_without_langchain_the_extra_to_install_is_named(name, monkeypatch):
    for module in [each for each in sys.modules if each.startswith("concur_agents.integrations.langchain_")]:
        monkeypatch.delitem(sys.modules, module)
    for needed in ("langchain_core.rate_limiters", "langchain_core.callbacks", "langchain.agents.middleware"):
        monkeypatch.setitem(sys.modules, needed, None)
    monkeypatch.setitem(sys.modules, "langchain_openai", None)
    with pytest.raises(MissingExtra, match=r"pip install 'concur-agents\[langchain\]'"):
        getattr(langchain, name)


def test_what_is_not_there_is_an_attribute_error():
    assert not hasattr(langchain, "ConcurChain")


def test_the_handler_and_the_rate_limiter_need_langchain_core_alone():
    look = (
        "import sys; from concur_agents.integrations.langchain import ConcurCallbackHandler, gate_rate_limiter; "
        "print([m for m in sys.modules if m in ('langchain', 'langchain_openai', 'openai', 'langgraph')])"
    )
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
