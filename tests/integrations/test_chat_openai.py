"""LangChain's `ChatOpenAI` on a gated client, made as `concur_agents.integrations.openai` says."""

from __future__ import annotations

import asyncio

import pytest

from concur_agents.integrations.openai import wrap_openai

from .openai_calls import Answer

ChatOpenAI = pytest.importorskip("langchain_openai").ChatOpenAI
messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")

QUESTION = "what is the answer?"


@pytest.fixture
def model(client, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return ChatOpenAI(model="tiny", async_client=client.chat.completions, root_async_client=client)


@tools.tool
def look_up(answer: int) -> str:
    """Look an answer up."""
    return str(answer)


async def streamed(runnable, question=QUESTION):
    """All chunks put together."""
    whole = None
    async for chunk in runnable.astream(question):
        whole = chunk if whole is None else whole + chunk
    return whole


async def test_ainvoke_is_a_turn(model, turns, vllm):
    answer = await model.ainvoke(QUESTION)
    assert answer.content == "the answer is 42"
    assert answer.usage_metadata["input_token_details"]["cache_read"] == 16
    assert vllm.last.headers["x-session-id"] == turns.agent.session_id
    assert turns.turn.reported == (21, 4, 16)


async def test_astream_is_a_turn_and_shows_usage_to_nobody_who_did_not_ask(model, turns):
    whole = await streamed(model)
    assert whole.content == "the answer is 42"
    assert whole.usage_metadata is None
    assert turns.turn.reported == (21, 4, 16)


async def test_astream_shows_usage_to_who_asks(client, turns):
    model = ChatOpenAI(model="tiny", async_client=client.chat.completions, root_async_client=client, stream_usage=True)
    assert (await streamed(model)).usage_metadata["input_tokens"] == 21
    assert turns.turn.reported == (21, 4, 16)


async def test_astream_that_is_left_early_ends_its_turn(model, turns, vllm):
    vllm.stall_after = 2
    stream = model.astream(QUESTION)
    assert (await anext(stream)).content in {"", "the"}
    await stream.aclose()
    for _ in range(20):  # LangChain leaves the stream inside to the loop's clean-up of generators
        await asyncio.sleep(0)
    assert turns.turn.end_calls == 1


@pytest.mark.parametrize("call", [lambda runnable: runnable.ainvoke(QUESTION), streamed], ids=["ainvoke", "astream"])
async def test_bind_tools_gives_tool_calls_and_each_call_is_a_turn(call, model, turns):
    bound = model.bind_tools([look_up])
    asked = await call(bound)
    (tool_call,) = asked.tool_calls
    assert (tool_call["name"], tool_call["args"]) == ("look_up", {"answer": 42})
    result = messages.ToolMessage(look_up.invoke(tool_call["args"]), tool_call_id=tool_call["id"])
    history = [messages.HumanMessage(QUESTION), messages.AIMessage("", tool_calls=asked.tool_calls), result]
    assert (await bound.ainvoke(history)).content == "the answer is 42"
    assert [turn.reported for turn in turns.turns] == [(21, 4, 16)] * 2


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output_is_a_turn(method, model, turns):
    structured = model.with_structured_output(Answer, method=method)
    assert await structured.ainvoke(QUESTION) == Answer(answer=42)
    assert turns.turn.reported == (21, 4, 16)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain dumps parsed chunks, gated or not
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output_as_a_stream_is_a_turn(method, model, turns):
    structured = model.with_structured_output(Answer, method=method)
    assert [part async for part in structured.astream(QUESTION)][-1] == Answer(answer=42)
    assert turns.turn.reported == (21, 4, 16)


async def test_the_responses_api_is_a_turn(client, turns, vllm):
    model = ChatOpenAI(
        model="tiny", async_client=client.chat.completions, root_async_client=client, use_responses_api=True
    )
    assert (await model.ainvoke(QUESTION)).text == "the answer is 42"
    assert (await streamed(model)).text == "the answer is 42"
    assert {seen.path for seen in vllm.seen} == {"/v1/responses"}
    assert [turn.reported for turn in turns.turns] == [(21, 4, 16)] * 2


async def test_a_batch_is_a_turn_each(model, turns):
    assert len(await model.abatch([QUESTION] * 3)) == 3
    assert [turn.reported for turn in turns.turns] == [(21, 4, 16)] * 3


def test_a_chat_openai_is_refused_with_the_recipe(model, turns):
    with pytest.raises(TypeError, match=r"async_client=client\.chat\.completions, root_async_client=client"):
        wrap_openai(turns, model)
