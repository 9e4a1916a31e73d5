"""One of each integration on a real vLLM: its calls are turns, its tokens are the server's, no place is left behind."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

from concur_agents import ConcurGate
from concur_agents.integrations.langchain import ConcurCallbackHandler, ConcurMiddleware, chat_openai, gate_rate_limiter
from concur_agents.integrations.openai_agents import ConcurModel, ConcurRunHooks

AGENTS = 4
QUESTION = "Count to ten, and then go on counting."
MESSAGES = {"messages": [("user", QUESTION)]}


@pytest.fixture(autouse=True)
def no_traces():
    set_tracing_disabled(disabled=True)


# One loop for all: ChatOpenAI keeps one HTTP client for the whole process, on the loop that used it first.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def gate(vllm_server):
    async with ConcurGate(vllm_server.url, controller="fixed:2") as gate:
        yield gate
        stats = gate.stats()
        assert (stats.active, stats.running, stats.paused, stats.queued) == (0, 0, 0, 0)
        assert gate.admission.live == 0


def plain_chat(gate, model, **options):
    return ChatOpenAI(model=model, base_url=f"{gate.config.url}/v1", api_key="-", max_tokens=8, **options)


def used(answers):
    return sum(answer["messages"][-1].usage_metadata["total_tokens"] for answer in answers)


def counted(gate):
    stats = gate.stats()
    assert stats.turns == AGENTS
    return stats.prompt_tokens + stats.output_tokens


async def test_middleware_of_a_created_agent(gate, model):
    agent = gate.graph(create_agent(plain_chat(gate, model), [], middleware=[ConcurMiddleware(gate)]))
    answers = await agent.abatch([MESSAGES] * AGENTS)
    assert counted(gate) == used(answers) > 0


async def test_a_callback_handler(gate, model):
    agent = create_agent(plain_chat(gate, model), [])
    answers = await agent.abatch([MESSAGES] * AGENTS, {"callbacks": [ConcurCallbackHandler(gate)]})
    assert counted(gate) == used(answers) > 0


async def test_a_rate_limiter(gate, model):
    llm = plain_chat(gate, model, rate_limiter=gate_rate_limiter(gate))

    async def ask():
        async with gate.agent():
            return await llm.ainvoke(QUESTION)

    assert all(answer.content for answer in await asyncio.gather(*(ask() for _ in range(AGENTS))))


async def test_chat_openai_streams_with_usage(gate, model):
    llm = chat_openai(gate, model=model, max_tokens=8)

    async def ask():
        async with gate.agent():
            return [chunk async for chunk in llm.astream(QUESTION)]

    streams = await asyncio.gather(*(ask() for _ in range(AGENTS)))
    told = [chunk.usage_metadata["total_tokens"] for chunks in streams for chunk in chunks if chunk.usage_metadata]
    assert counted(gate) == sum(told) > 0


@pytest.mark.parametrize("way", ["client", "model", "hooks"])
async def test_the_agents_sdk(gate, model, way):
    client = AsyncOpenAI(base_url=f"{gate.config.url}/v1", api_key="-")
    inner = OpenAIChatCompletionsModel(model, gate.openai(client) if way == "client" else client)
    settings = ModelSettings(max_tokens=8)
    coder = Agent("coder", model=ConcurModel(gate, inner) if way == "model" else inner, model_settings=settings)

    async def solve():
        async with gate.agent():
            hooks = ConcurRunHooks(gate) if way == "hooks" else None
            return await Runner.run(coder, QUESTION, hooks=hooks)

    results = await asyncio.gather(*(solve() for _ in range(AGENTS)))
    assert counted(gate) == sum(result.context_wrapper.usage.total_tokens for result in results) > 0
    await client.close()


async def test_the_synchronous_client_in_threads(gate, model):
    client = gate.openai(OpenAI(base_url=f"{gate.config.url}/v1", api_key="-"))

    def solve(number):
        with gate.sync.agent(f"thread-{number}"):
            message = {"role": "user", "content": QUESTION}
            return client.chat.completions.create(model=model, messages=[message], max_tokens=8).usage.total_tokens

    with ThreadPoolExecutor(AGENTS) as threads:
        loop = asyncio.get_running_loop()
        tokens = await asyncio.gather(*(loop.run_in_executor(threads, solve, n) for n in range(AGENTS)))
    assert counted(gate) == sum(tokens) > 0


async def test_a_batch_that_goes_on_from_its_checkpoint(gate, model, tmp_path):
    client = gate.openai(AsyncOpenAI(base_url=f"{gate.config.url}/v1", api_key="-"))

    async def solve(number):
        message = {"role": "user", "content": f"{number}: {QUESTION}"}
        answer = await client.chat.completions.create(model=model, messages=[message], max_tokens=8)
        return answer.choices[0].message.content

    items, path = list(range(AGENTS)), tmp_path / "done.jsonl"
    first = await gate.map(solve, items[:2], checkpoint=path)
    assert (await gate.map(solve, items, checkpoint=path))[:2] == first
    assert gate.stats().turns == AGENTS
    await client.close()
