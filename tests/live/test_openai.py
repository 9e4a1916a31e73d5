"""Every kind of call of the OpenAI client, through the gate, on a real vLLM: one call, one turn, its real tokens."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI

from concur_agents import ConcurGate

MESSAGES = [{"role": "user", "content": "Count to ten, and then go on counting."}]
SHORT = {"max_tokens": 8, "temperature": 0}


async def create(client, model):
    return (await client.chat.completions.create(model=model, messages=MESSAGES, **SHORT)).usage


async def create_stream(client, model):
    async for chunk in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **SHORT):
        assert chunk.choices, "the usage chunk is kept from who did not ask for it"


async def create_stream_with_usage(client, model):
    usage = None
    options = {"include_usage": True}
    async for chunk in await client.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, stream_options=options, **SHORT
    ):
        usage = chunk.usage or usage
    return usage


async def stream_helper(client, model):
    async with client.chat.completions.stream(model=model, messages=MESSAGES, **SHORT) as stream:
        async for _ in stream:
            pass


async def raw(client, model):
    response = await client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, **SHORT)
    return response.parse().usage


async def streamed_raw(client, model):
    async with client.chat.completions.with_streaming_response.create(
        model=model, messages=MESSAGES, **SHORT
    ) as response:
        return (await response.parse()).usage


async def a_copy(client, model):
    copy = client.with_options(timeout=60).with_options(max_retries=0)
    return (await copy.chat.completions.create(model=model, messages=MESSAGES, **SHORT)).usage


async def completions(client, model):
    return (await client.completions.create(model=model, prompt=[7, 8, 9] * 20, max_tokens=8)).usage


async def completions_stream(client, model):
    async for _ in await client.completions.create(model=model, prompt=[7, 8, 9] * 20, max_tokens=8, stream=True):
        pass


async def responses(client, model):
    return (await client.responses.create(model=model, input="Count to ten.", max_output_tokens=16)).usage


async def responses_stream(client, model):
    async for _ in await client.responses.create(model=model, input="Count to ten.", max_output_tokens=16, stream=True):
        pass


KINDS = [
    create,
    create_stream,
    create_stream_with_usage,
    stream_helper,
    raw,
    streamed_raw,
    a_copy,
    completions,
    completions_stream,
    responses,
    responses_stream,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_one_call_is_one_turn_with_its_real_tokens(kind, vllm_server, model):
    async with (
        ConcurGate(vllm_server.url, controller="fixed:1") as gate,
        AsyncOpenAI(base_url=f"{vllm_server.url}/v1", api_key="EMPTY") as plain,
    ):
        client = gate.openai(plain)
        async with gate.agent() as agent:
            first = await kind(client, model)
            assert agent.turns == 1
            assert agent.prompt_tokens > 0
            assert agent.output_tokens > 0
            assert agent.footprint == agent.prompt_tokens + agent.output_tokens
            if first is not None:
                told = first.model_dump()
                assert agent.prompt_tokens == told.get("prompt_tokens", told.get("input_tokens"))
            await kind(client, model)
            assert agent.turns == 2
        stats = gate.stats()
        assert (stats.active, stats.running) == (0, 0)
        assert stats.output_tokens == agent.output_tokens


async def test_cached_tokens_are_read_from_the_server(vllm_server, model):
    async with (
        ConcurGate(vllm_server.url, controller="fixed:1") as gate,
        AsyncOpenAI(base_url=f"{vllm_server.url}/v1", api_key="EMPTY") as plain,
    ):
        client = gate.openai(plain)
        prompt = [11, 12, 13, 14] * 50
        async with gate.agent() as agent:
            await client.completions.create(model=model, prompt=prompt, max_tokens=1)
            before = agent.cached_tokens
            await client.completions.create(model=model, prompt=[*prompt, *range(20, 60)], max_tokens=1)
            assert agent.cached_tokens - before == 200 // 32 * 32
            assert agent.recomputed_tokens == 0


async def test_a_server_that_refuses_gives_the_callers_error_and_the_place_back(vllm_server, model):
    from openai import BadRequestError, NotFoundError

    async with (
        ConcurGate(vllm_server.url, controller="fixed:1") as gate,
        AsyncOpenAI(base_url=f"{vllm_server.url}/v1", api_key="EMPTY") as plain,
    ):
        client = gate.openai(plain)
        async with gate.agent():
            with pytest.raises(NotFoundError):
                await create(client, "no-such-model")
            with pytest.raises(BadRequestError):
                await client.completions.create(model=model, prompt=[5] * 100_000, max_tokens=1)
        assert gate.stats().running == gate.stats().active == 0
