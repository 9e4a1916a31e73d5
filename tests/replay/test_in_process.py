"""The real clients on the embedded engine, in virtual time: the same calls, no socket."""

from __future__ import annotations

import asyncio

import openai
import pytest
from langchain_openai import ChatOpenAI
from replay.small_load import growing, small

from concur_agents import ConcurGate
from concur_agents.replay.in_process import http_client, open_in_process
from concur_agents.replay.runner import run_live
from concur_agents.replay.simulated import run_simulated
from concur_agents.simulation import Engine, LinearStepTime
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine
from concur_agents.simulation.virtual_time import run


def api():
    return OpenAIApi(RunningEngine(Engine(1000, LinearStepTime(0.02, 0.001))), model="tiny", version="0")


def client(served):
    return openai.AsyncOpenAI(base_url="http://x/v1", api_key="k", http_client=http_client(served), max_retries=0)


HELLO = [{"role": "user", "content": "Say hello."}]


FULL = {"ignore_eos": True}


def test_the_openai_client_works_and_waits_in_virtual_time():
    async def main():
        async with client(api()) as ours:
            answer = await ours.chat.completions.create(model="tiny", messages=HELLO, max_tokens=50, extra_body=FULL)
        return answer, asyncio.get_running_loop().time()

    answer, took = run(main())

    assert answer.usage.completion_tokens == 50
    assert took == pytest.approx(49 * 0.021 + 0.02 + 0.001 * answer.usage.prompt_tokens, abs=0.01)


def test_a_stream_comes_in_pieces_over_virtual_time():
    async def main():
        async with client(api()) as ours:
            stream = await ours.chat.completions.create(
                model="tiny", messages=HELLO, max_tokens=50, stream=True, extra_body=FULL
            )
            return [asyncio.get_running_loop().time() async for _ in stream]

    times = run(main())

    assert len(set(times)) > 5
    assert times == sorted(times)


def test_an_error_is_the_clients_own_error():
    async def main():
        async with client(api()) as ours:
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                await ours.chat.completions.create(model="other", messages=HELLO)

    run(main())


def test_a_cancelled_call_and_a_closed_stream_leave_no_request_on_the_engine():
    async def main():
        served = api()
        async with client(served) as ours:
            call = asyncio.create_task(
                ours.chat.completions.create(model="tiny", messages=HELLO, max_tokens=500, extra_body=FULL)
            )
            stream = await ours.chat.completions.create(
                model="tiny", messages=HELLO, max_tokens=500, stream=True, extra_body=FULL
            )
            await anext(stream.__aiter__())
            call.cancel()
            await stream.close()
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.sleep(1)
        return served.engine.counters()

    counters = run(main())

    assert (counters.num_requests_running, counters.num_requests_waiting) == (0, 0)
    assert counters.request_success == 0


def test_langchains_model_works_on_it():
    async def main():
        served = api()
        model = ChatOpenAI(
            model="tiny", base_url="http://x/v1", api_key="k", http_async_client=http_client(served), max_tokens=20
        )
        return await model.ainvoke("Say hello.")

    message = run(main())

    assert message.usage_metadata["output_tokens"] > 0
    assert message.content


def replayed(controller, load, profile):
    async def main():
        shown = []
        async with open_in_process(profile) as server:
            return await run_live(load, controller, server, on_progress=shown.append), shown

    return run(main())


def test_langgraph_agents_thrash_without_a_gate_and_do_not_with_one():
    none, _ = replayed("none", growing(), small())
    gated, shown = replayed("fixed:3", growing(), small())

    assert (none.failed_agents, gated.failed_agents) == (0, 0)
    ideal = growing().info(None).hit_rate_ideal
    assert none.hit_rate < 0.6 * ideal
    assert gated.hit_rate > 0.9 * ideal
    assert gated.computed_prompt_tokens < 0.5 * none.computed_prompt_tokens
    assert max(progress.active for progress in shown) == 3


def test_the_same_run_twice_is_the_same_to_the_last_digit():
    assert replayed("aimd", growing(), small())[0] == replayed("aimd", growing(), small())[0]


def test_langgraph_agents_and_plain_ones_find_the_same_in_the_cache():
    """The fast agents of `concur compare` stand for the real ones: same prompts, same order, same hits."""
    graphs, _ = replayed("fixed:3", growing(), small())
    plain = run_simulated(growing(), "fixed:3", small(), on_progress=lambda _: None)

    assert graphs.output_tokens == plain.output_tokens
    assert graphs.hit_rate == pytest.approx(plain.hit_rate, abs=0.01)
    assert graphs.makespan_s == pytest.approx(plain.makespan_s, rel=0.02)


def test_the_gate_polls_the_engines_own_page():
    async def main():
        async with (
            open_in_process(small()) as server,
            ConcurGate(server.url, fetch_metrics=server.fetch_metrics) as gate,
        ):
            return gate.snapshot

    snapshot = run(main())

    assert snapshot.capacity_tokens == small().capacity_tokens
    assert snapshot.block_size == 16
