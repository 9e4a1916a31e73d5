"""A replayed agent: a LangGraph graph whose model node calls a server through the OpenAI client."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from openai import AsyncOpenAI

from concur_agents.replay.recorder import Turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langgraph.graph.state import CompiledStateGraph

    from concur_agents.replay.prompt import Conversation


@dataclass(slots=True)
class _Request:
    """When a call left for the server; a wrapped client may hold it at the gate first."""

    sent: float | None = None


_request: ContextVar[_Request] = ContextVar("concur_replay_request")


class ReplayClient(AsyncOpenAI):
    """The OpenAI client, with a note of when a call is through the gate and leaves for the server."""

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request; the note is of its first attempt, so that retries count as its time."""
        request = _request.get(None)
        if request is not None and request.sent is None:
            request.sent = asyncio.get_running_loop().time()
        return await super().request(*args, **kwargs)


@dataclass(slots=True)
class Replay:
    """One agent's run.

    Attributes:
        conversation: Makes its prompts.
        on_turn: Called at the end of every call.
        since: When it asked for its first place, on the loop's clock. [s]
        spawn: Runs the agents of these names to their ends.
    """

    conversation: Conversation
    on_turn: Callable[[Turn], None]
    since: float
    spawn: Callable[[tuple[str, ...]], Awaitable[None]]


class AgentState(TypedDict):
    """What moves along the graph.

    Attributes:
        replay: The run; it keeps the conversation.
        step: The call that comes next.
    """

    replay: Replay
    step: int


def recursion_limit(steps: int) -> int:
    """The LangGraph limit that a run of so many calls needs: a superstep a call and a tool, and some room."""
    return 2 * steps + 5


def build_graph(client: AsyncOpenAI, model: str, cache_salt: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The agent: `model → tool → model → …` until its calls are used up.

    Args:
        client: Calls the server; gated or not.
        model: The model's name there.
        cache_salt: Splits this run's prefix cache from those of other runs (vLLM).
    """

    async def call_model(state: AgentState) -> dict[str, int]:
        replay = state["replay"]
        conversation = replay.conversation
        step = conversation.agent.steps[state["step"]]
        prompt = conversation.prompt(step)
        loop = asyncio.get_running_loop()
        # The admission comes before the graph's first node: it is part of the wait for the first call.
        asked = replay.since if state["step"] == 0 else loop.time()
        request = _Request()
        token = _request.set(request)
        try:
            completion = await client.completions.create(
                model=model,
                # The client checks a list given here item by item (openai 3.54: 0.9 s for 100,000 ids);
                # the one in extra_body takes its place unchecked.
                prompt="",
                max_tokens=step.output_tokens,
                extra_body={
                    "prompt": prompt,
                    "ignore_eos": True,
                    "min_tokens": step.output_tokens,
                    "cache_salt": cache_salt,
                    "return_token_ids": True,
                },
            )
        finally:
            _request.reset(token)
        sent = asked if request.sent is None else request.sent
        took = loop.time() - sent
        output = getattr(completion.choices[0], "token_ids", None)
        if output is None:
            output = conversation.filler(step.output_tokens)
        conversation.answered(output)
        replay.on_turn(Turn(sent - asked, took, len(output), len(prompt) + len(output)))
        return {"step": state["step"] + 1}

    async def wait_for_tool(state: AgentState) -> dict[str, int]:
        replay = state["replay"]
        step = replay.conversation.agent.steps[state["step"] - 1]
        if step.spawns:
            await replay.spawn(step.spawns)
        else:
            await asyncio.sleep(step.tool_seconds or 0.0)
        return {}

    def more(state: AgentState) -> str:
        return "tool" if state["step"] < len(state["replay"].conversation.agent.steps) else END

    graph = StateGraph(AgentState)
    graph.add_node("model", call_model)
    graph.add_node("tool", wait_for_tool)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", more, ["tool", END])
    graph.add_edge("tool", "model")
    return graph.compile(name="replayed agent")
