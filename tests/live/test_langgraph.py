"""A LangGraph agent with a tool, through ChatOpenAI, several turns, admitted by the gate, on a real vLLM."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from openai import AsyncOpenAI

from concur_agents import ConcurGate

AGENTS = 5
PLACES = 2
TOOL_CALLS = 2


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


@tool
async def weather(city: Literal["Oslo", "Rome", "Lima"]) -> str:
    """The weather in a city."""
    await asyncio.sleep(0.1)
    return f"sunny in {city}"


def build(llm, most_active, gate):
    # A model with random weights has to be made to call a tool, and to stop: a strict schema does both.
    calling = llm.bind_tools([weather], tool_choice="required", strict=True, parallel_tool_calls=False)

    @gate.node
    async def think(state: State):
        most_active.append(gate.stats().active)
        called = sum(message.type == "tool" for message in state["messages"])
        answering = llm.bind(max_tokens=16)
        return {"messages": [await (answering if called == TOOL_CALLS else calling).ainvoke(state["messages"])]}

    def after(state: State) -> str:
        return "tools" if state["messages"][-1].tool_calls else END

    builder = StateGraph(State)
    builder.add_node("think", think)
    builder.add_node("tools", ToolNode([weather]))
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", after)
    builder.add_edge("tools", "think")
    return builder.compile()


async def test_a_batch_of_langgraph_agents_runs_two_at_a_time(vllm_server, model):
    most_active: list[int] = []
    async with (
        ConcurGate(vllm_server.url, controller=f"fixed:{PLACES}") as gate,
        AsyncOpenAI(base_url=f"{vllm_server.url}/v1", api_key="EMPTY") as plain,
    ):
        client = gate.openai(plain)
        llm = ChatOpenAI(model=model, async_client=client.chat.completions, root_async_client=client, max_tokens=400)
        graph = gate.graph(build(llm, most_active, gate))
        question = {"messages": [HumanMessage("What is the weather like?")]}
        answers = await asyncio.gather(*(graph.ainvoke(question) for _ in range(AGENTS)))
        stats = gate.stats()

    for answer in answers:
        kinds = [message.type for message in answer["messages"]]
        assert kinds == ["human", *["ai", "tool"] * TOOL_CALLS, "ai"]
        assert answer["messages"][2].content.startswith("sunny in ")
    assert max(most_active) == PLACES
    assert stats.turns == AGENTS * (TOOL_CALLS + 1)
    assert stats.finished == AGENTS
    used = [m.usage_metadata for a in answers for m in a["messages"] if m.type == "ai"]
    assert stats.prompt_tokens == sum(usage["input_tokens"] for usage in used)
    assert stats.output_tokens == sum(usage["output_tokens"] for usage in used)
    assert stats.cached_tokens == sum(usage["input_token_details"]["cache_read"] for usage in used)
    assert stats.cached_tokens > 0
    assert (stats.active, stats.running, stats.paused, stats.queued) == (0, 0, 0, 0)
