"""What a turn costs through each integration: with the gate minus without it, on a model that answers at once.

    python benchmarks/integrations.py            a minute and a half
    python benchmarks/integrations.py --rounds 3

Processor time, which other programs lengthen only by what they push out of the caches; the median of several rounds
and their range, in µs a turn. Within a round a few calls with the gate and a few without it take turns, and the
median of their differences counts: a client's own 500 µs wander by more than a gate costs. A gate of `fixed:4`, one
agent, calls one after the other. The OpenAI clients answer from a transport in this process, at once, or later:
waiting, a thread leaves the interpreter to the event loop, and each finds its caches cold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from agents import ModelSettings, ModelTracing, OpenAIChatCompletionsModel
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.graph import END, START, StateGraph
from openai import AsyncOpenAI, OpenAI
from rich.console import Console
from rich.table import Table
from typing_extensions import TypedDict

from concur_agents import ConcurGate
from concur_agents.integrations.langchain import ConcurCallbackHandler, ConcurMiddleware, gate_rate_limiter
from concur_agents.integrations.openai_agents import ConcurModel
from concur_agents.replay.in_process import httpx
from concur_agents.sync.mailbox import LOOK_AGAIN_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALLS = 300
STEPS = 20
"""Steps of a graph's run, each of them a node; turns of a few calls."""

USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
ANSWER = {
    "id": "chat-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 900}},
}
THREAD_STEPS = 100
"""Turns of a thread one after the other: that it starts, and the loop wakes up, is no cost of a turn."""
QUESTION: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def respond(_: Any) -> Any:
    """The same answer to every request."""
    return httpx.Response(200, content=json.dumps(ANSWER), headers={"content-type": "application/json"})


def client(kind: Any, after_s: float) -> Any:
    """An OpenAI client that is answered after so long, or at once."""

    def answer(request: Any) -> Any:
        time.sleep(after_s)
        return respond(request)

    async def answer_task(request: Any) -> Any:
        await asyncio.sleep(after_s)
        return respond(request)

    asynchronous = kind is AsyncOpenAI
    transport = httpx.MockTransport((answer_task if asynchronous else answer) if after_s else respond)
    http = (httpx.AsyncClient if asynchronous else httpx.Client)(transport=transport)
    return kind(api_key="-", base_url="http://x/v1", http_client=http)


class Nothing(BaseCallbackHandler):
    """A handler beside which ours is measured."""

    run_inline = True

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


class State(TypedDict):
    """Of the graph."""

    step: int


async def _each(call: Callable[[], Awaitable[Any]], turns: int = 1) -> float:
    """A few calls, of so many turns each, in µs a turn."""
    calls = max(1, STEPS // turns)
    began = time.process_time()
    for _ in range(calls):
        await call()
    return (time.process_time() - began) / (calls * turns) * 1e6


async def _nothing() -> None:
    pass


async def _more(
    call: Callable[[], Awaitable[Any]], than: Callable[[], Awaitable[Any]] = _nothing, turns: int = 1
) -> float:
    """What a call costs more than another, in µs a turn."""
    differences = [await _each(call, turns) - await _each(than, turns) for _ in range(1 + CALLS // STEPS)]
    return statistics.median(differences[1:])  # the first is for warming up


def graph(think: Any) -> Any:
    """A graph whose one node runs `STEPS` times."""
    builder = StateGraph(State)
    builder.add_node("think", think)
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", lambda state: "think" if state["step"] < STEPS else END)
    return builder.compile()


async def more_of_client(gate: ConcurGate, asked: Any) -> float:
    """What a turn costs more through the gated copy of an OpenAI client, in µs a turn."""

    async def ask(client: Any) -> None:
        await client.chat.completions.create(**QUESTION)

    async def ask_in_thread(client: Any) -> None:
        await asyncio.to_thread(lambda: [client.chat.completions.create(**QUESTION) for _ in range(THREAD_STEPS)])
        await asyncio.sleep(3 * LOOK_AGAIN_S)  # until the loop has done all that was posted

    gated = gate.openai(asked)
    if isinstance(asked, AsyncOpenAI):
        return await _more(lambda: ask(gated), lambda: ask(asked))
    return await _more(lambda: ask_in_thread(gated), lambda: ask_in_thread(asked), THREAD_STEPS)


async def measure(after_s: float = 0.001) -> dict[str, float]:
    """One round, in µs a turn."""
    gate = ConcurGate(controller="fixed:4")
    plain, slow = client(AsyncOpenAI, 0), client(AsyncOpenAI, after_s)
    sync, slow_sync = client(OpenAI, 0), client(OpenAI, after_s)
    after = f"answers after {after_s * 1e3:g} ms"
    inner = OpenAIChatCompletionsModel("m", plain)
    message = AIMessage("hi", usage_metadata={"input_tokens": 1000, "output_tokens": 10, "total_tokens": 1010})
    result = LLMResult(generations=[[ChatGeneration(message=message)]])
    limiter, middleware, handler = gate_rate_limiter(gate), ConcurMiddleware(gate), ConcurCallbackHandler(gate)

    async def turn() -> None:
        async with gate.turn() as turn:
            turn.report(prompt_tokens=1000, completion_tokens=10, cached_tokens=900)

    async def sdk(model: Any) -> None:
        await model.get_response(
            None,
            "x",
            ModelSettings(),
            [],
            None,
            [],
            ModelTracing.DISABLED,
            previous_response_id=None,
            conversation_id=None,
            prompt=None,
        )

    async def answer(_: Any) -> Any:
        return message

    async def callbacks(of: BaseCallbackHandler) -> None:
        (run,) = await AsyncCallbackManager(handlers=[of]).on_chat_model_start({}, [[HumanMessage("x")]], batch_size=1)
        await run.on_llm_end(result)

    async def think(state: State) -> State:
        return {"step": state["step"] + 1}

    compiled, gated = graph(think), gate.graph(graph(gate.node(think)))

    figures = {}
    async with gate.agent():
        figures["gate.turn()"] = await _more(turn)
        figures["gate.openai(AsyncOpenAI)"] = await more_of_client(gate, plain)
        figures[f"gate.openai(AsyncOpenAI), {after}"] = await more_of_client(gate, slow)
        figures["gate.openai(OpenAI), in a thread"] = await more_of_client(gate, sync)
        figures[f"gate.openai(OpenAI), in a thread, {after}"] = await more_of_client(gate, slow_sync)
        figures["ConcurModel"] = await _more(lambda: sdk(ConcurModel(gate, inner)), lambda: sdk(inner))
        figures["ConcurMiddleware"] = await _more(lambda: middleware.awrap_model_call(None, answer))  # type: ignore[arg-type]
        figures["ConcurCallbackHandler"] = await _more(lambda: callbacks(handler), lambda: callbacks(Nothing()))
        figures["gate_rate_limiter"] = await _more(limiter.aacquire)
    figures["gate.graph and @gate.node"] = await _more(
        lambda: gated.ainvoke({"step": 0}), lambda: compiled.ainvoke({"step": 0}), STEPS
    )
    await plain.close()
    await slow.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="What a turn costs through each integration.")
    parser.add_argument("--rounds", type=int, default=7, help="the median is shown, and the range")
    parser.add_argument("--after-ms", type=float, default=1, help="when the slower server answers")
    asked = parser.parse_args()
    rounds = [asyncio.run(measure(asked.after_ms / 1e3)) for _ in range(asked.rounds)]
    table = Table("integration", "µs a turn", title="with the gate, minus without it")
    for name in rounds[0]:
        figures = [figures[name] for figures in rounds]
        table.add_row(name, f"{statistics.median(figures):.0f} ({min(figures):.0f}–{max(figures):.0f})")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
