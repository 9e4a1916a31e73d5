"""The metrics page of a real vLLM, as `read_vllm` reads it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import fields
from random import Random

import aiohttp
import pytest

from concur_agents.engines import EngineReading, metrics_url, read_vllm
from concur_agents.errors import MetricsError

PROMPT = 100
OUTPUT = 28  # with the prompt whole blocks, of 16 or 32: that the last token is not cached shows


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield session


@pytest.fixture
def reading(http, vllm_server):
    """Reads the server's page: a coroutine function that gives the one engine's reading."""

    async def read() -> EngineReading:
        async with http.get(metrics_url(vllm_server.url)) as answer:
            (engine,) = read_vllm(await answer.text())
        return engine

    return read


@pytest.fixture
def complete(http, vllm_server, model):
    """A completion in a cache of its own: a coroutine function that gives output token ids and usage."""
    salt = uuid.uuid4().hex

    async def call(prompt: list[int], output: int) -> tuple[list[int], dict]:
        body = {
            "model": model,
            "prompt": prompt,
            "max_tokens": output,
            "ignore_eos": True,
            "return_token_ids": True,
            "cache_salt": salt,
        }
        async with http.post(f"{vllm_server.url}/v1/completions", json=body) as answer:
            answer.raise_for_status()
            said = await answer.json()
        return said["choices"][0]["token_ids"], said["usage"]

    return call


def some_prompt(seed: int, tokens: int = PROMPT) -> list[int]:
    # Below 5,000 there are only words, letters and syllables in the tiny model's vocabulary.
    return Random(seed).choices(range(5_000), k=tokens)


async def test_a_page_of_this_release_says_everything_that_a_reading_holds(reading):
    engine = await reading()

    unsaid = {field.name for field in fields(engine) if getattr(engine, field.name) is None}
    assert unsaid == {"hit_rate_gauge"}  # it has counters instead
    assert not engine.sleeping
    assert engine.capacity_tokens >= 8_192
    assert engine.capacity_tokens % engine.block_size == 0


async def test_the_cache_is_as_large_as_the_server_was_told(reading, killable_server):
    engine = await reading()

    assert engine.capacity_tokens == killable_server.kv_tokens
    assert engine.block_size == 32


async def test_counters_move_by_the_tokens_that_were_sent_and_made(reading, complete):
    before = await reading()
    output, usage = await complete(some_prompt(1), OUTPUT)
    after = await reading()

    assert len(output) == OUTPUT
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert after.queries - before.queries == PROMPT
    assert after.hits - before.hits == 0
    assert after.prompt_tokens - before.prompt_tokens == PROMPT
    assert after.computed_prompt_tokens - before.computed_prompt_tokens == PROMPT
    assert after.generation_tokens - before.generation_tokens == OUTPUT
    assert after.preemptions == before.preemptions


async def test_a_context_that_comes_back_is_read_from_the_cache_in_whole_blocks(reading, complete):
    prompt = some_prompt(2)
    output, _ = await complete(prompt, OUTPUT)
    before = await reading()
    next_prompt = [*prompt, *output, *some_prompt(3, 20)]
    _, usage = await complete(next_prompt, 1)
    after = await reading()

    # The last output token was sampled but never read, so the cache holds one token less than was said.
    block = after.block_size
    reusable = (PROMPT + OUTPUT - 1) // block * block
    assert usage["prompt_tokens_details"]["cached_tokens"] == reusable
    assert after.hits - before.hits == reusable
    assert after.queries - before.queries == len(next_prompt)
    assert after.computed_prompt_tokens - before.computed_prompt_tokens == len(next_prompt) - reusable


async def test_requests_in_flight_show_as_running_and_as_usage_and_are_gone_afterwards(reading, complete):
    # Long enough that a slow moment of the machine, in which no page comes, is not the whole of it.
    in_flight = [asyncio.create_task(complete(some_prompt(seed), 1_000)) for seed in range(4, 8)]
    readings = []
    while not all(task.done() for task in in_flight):
        readings.append(await reading())
    await asyncio.gather(*in_flight)
    busiest = max(readings, key=lambda engine: engine.running)

    assert busiest.running == len(in_flight)
    assert busiest.usage * busiest.capacity_tokens >= len(in_flight) * PROMPT
    assert busiest.waiting == 0
    idle = await reading()
    assert (idle.running, idle.waiting, idle.usage) == (0, 0, 0)


async def test_other_pages_of_the_server_are_refused_as_no_metrics(http, vllm_server):
    async with http.get(f"{vllm_server.url}/v1/models") as answer:
        page = await answer.text()

    with pytest.raises(MetricsError):
        read_vllm(page)
