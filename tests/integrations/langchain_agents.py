"""LangChain agents with a real tool: on the embedded engine, and on a model that takes steps but no time."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from concur_agents.integrations.langchain import ConcurCallbackHandler, ConcurMiddleware, chat_openai, gate_rate_limiter
from concur_agents.replay.in_process import http_client
from concur_agents.simulation import Engine, LinearStepTime
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine

QUESTION = {"messages": [("user", "Who wrote it?")]}
ROUNDS = 2


@tool
async def look_up(text: str) -> str:
    """Look something up."""
    await asyncio.sleep(0)
    return f"found: {text}"


@tool
def look_up_in_thread(text: str) -> str:
    """Look something up."""
    return f"found: {text}"


def new_engine():
    return OpenAIApi(RunningEngine(Engine(1000, LinearStepTime(0.02, 0.001))), model="tiny", version="0", tool_rounds=2)


def plain_model(engine, **kwargs):
    return ChatOpenAI(**_at(engine), api_key="k", stream_usage=True, **kwargs)


def gated_model(gate, engine, **kwargs):
    return chat_openai(gate, **_at(engine), **kwargs)


def _at(engine):
    return {
        "model": "tiny",
        "base_url": "http://x/v1",
        "http_async_client": http_client(engine),
        "max_tokens": 200,
        "max_retries": 0,
        "seed": 7,
    }


class Scripted(BaseChatModel):
    """Calls each tool once, `rounds` times over, then answers; each call tells 100 tokens more than the one before."""

    rounds: int = ROUNDS
    steps: int = 2
    fails: bool = False

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self.bind(names=[each.name for each in tools])

    def _answer(self, messages, names):
        rounds = sum(isinstance(each, AIMessage) for each in messages)
        calls = []
        if names and rounds < self.rounds:
            calls = [{"name": name, "args": {"text": str(rounds)}, "id": f"{rounds}-{name}"} for name in names]
        prompt = 100 * (rounds + 1)
        usage = {
            "input_tokens": prompt,
            "output_tokens": 10,
            "total_tokens": prompt + 10,
            "input_token_details": {"cache_read": prompt - 100},
        }
        return {"content": "" if calls else "the answer", "tool_calls": calls, "usage_metadata": usage}

    async def _agenerate(self, messages, stop=None, run_manager=None, names=(), **_):
        for _step in range(self.steps):
            await asyncio.sleep(0)
        return self._generate(messages, names=names)

    def _generate(self, messages, stop=None, run_manager=None, names=(), **_):
        if self.fails:
            raise ConnectionError("no answer")
        return ChatResult(generations=[ChatGeneration(message=AIMessage(**self._answer(messages, names)))])

    async def _astream(self, messages, stop=None, run_manager=None, names=(), **_):
        for word in ("the", " answer"):
            for _step in range(self.steps):
                await asyncio.sleep(0)
            chunk = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager is not None:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk
        if self.fails:
            raise ConnectionError("no answer")
        yield ChatGenerationChunk(message=AIMessageChunk(**{**self._answer(messages, names), "content": ""}))


def ungated(gate, model, tools, **kwargs):
    return create_agent(model, tools, **kwargs)


def with_middleware(gate, model, tools, *, middleware=(), **kwargs):
    return gate.graph(create_agent(model, tools, middleware=[*middleware, ConcurMiddleware(gate)], **kwargs))


def with_middleware_alone(gate, model, tools, *, middleware=(), **kwargs):
    return create_agent(model, tools, middleware=[*middleware, ConcurMiddleware(gate)], **kwargs)


def with_handler(gate, model, tools, **kwargs):
    return create_agent(model, tools, **kwargs).with_config(callbacks=[ConcurCallbackHandler(gate)])


def with_limiter(gate, model, tools, **kwargs):
    limited = model.model_copy(update={"rate_limiter": gate_rate_limiter(gate)})
    return gate.graph(create_agent(limited, tools, **kwargs))


def with_all(gate, model, tools, **kwargs):
    limited = model.model_copy(update={"rate_limiter": gate_rate_limiter(gate)})
    return with_middleware(gate, limited, tools, **kwargs).with_config(callbacks=[ConcurCallbackHandler(gate)])


FACES = {
    "middleware": with_middleware,
    "middleware alone": with_middleware_alone,
    "handler": with_handler,
    "rate limiter": with_limiter,
    "all at once": with_all,
}


def skip_if_events_miss_the_handler(face):
    """Skip a test of `astream_events`, where LangGraph has it forget the callbacks of `with_config`."""
    if face is with_handler and tuple(map(int, version("langgraph").split(".")[:3])) < (1, 2, 4):
        pytest.skip("before LangGraph 1.2.4 astream_events leaves out the callbacks of with_config")


def idle(gate):
    stats = gate.stats()
    return (gate.admission.live, stats.active, stats.running, stats.paused, stats.queued) == (0, 0, 0, 0, 0)


async def settled(gate):
    """Whether the gate is idle once the loop has run what is left to be run."""
    for _ in range(50):
        if idle(gate):
            return True
        await asyncio.sleep(0)
    return False


async def somebody_waits(gate):
    for _ in range(1_000_000):  # threads may have to come to it
        if gate.waiting():
            return
        await asyncio.sleep(0)
    raise AssertionError("nobody waits")
