"""Calls that a strict type checker must accept, with the types that users see. Checked by `make lint`, never run."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypedDict, assert_type

from concur_agents import Agent, Budget, ConcurGate, Controller, Decision, GateConfig, GateStats, Turn, Waiting, gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langgraph.graph.state import CompiledStateGraph
    from openai import AsyncOpenAI


class State(TypedDict):
    answer: str


async def solve(number: int) -> str:
    return str(number)


async def count() -> int:
    return 1


async def numbers() -> AsyncIterator[int]:
    yield 1


async def agents(gate: ConcurGate) -> None:
    async with gate.agent("task", kind="coder", priority=1, expected_tokens=1000, timeout=60, nested="new") as agent:
        assert_type(agent, Agent)
        assert_type(gate.current(), Agent | None)
        async with agent.turn() as turn:
            assert_type(turn, Turn)
            turn.report(prompt_tokens=10, completion_tokens=2, cached_tokens=8)
    by_hand: Turn = await gate.begin_turn()
    by_hand.end()


async def batches(gate: ConcurGate) -> None:
    assert_type(await gate.gather(*(solve(n) for n in range(3))), list[str])
    assert_type(await gate.gather(*(solve(n) for n in range(3)), return_exceptions=True), list[str | BaseException])
    assert_type(await gate.gather(solve(1), count()), tuple[str, int])
    assert_type(await gate.gather(solve(1), count(), solve(2), count(), progress=True), tuple[str, int, str, int])
    assert_type(await gather(solve(1), count(), gate=gate), tuple[str, int])
    assert_type(
        await gather(*(solve(n) for n in range(3)), gate=gate, return_exceptions=True), list[str | BaseException]
    )
    assert_type(await gate.map(solve, range(3), kind="coder", retries=1, checkpoint="batch.jsonl", key=str), list[str])
    assert_type(await gate.map(solve, range(3), return_exceptions=True), list[str | BaseException])
    async with aclosing(gate.map(solve, numbers(), nested="new")) as batch:
        async for result in batch:
            assert_type(result, str)
    for next_one in gate.as_completed([solve(1), solve(2)], timeout=60):
        assert_type(await next_one, str)
    async for task in gate.as_completed({solve(1)}):
        assert_type(task, asyncio.Task[str])
    async with gate.TaskGroup() as group:
        assert_type(group.create_task(solve(1), name="one", kind="coder"), asyncio.Task[str])


def in_a_thread(gate: ConcurGate) -> None:
    with gate.sync.agent("task", kind="coder", timeout=60) as agent, gate.sync.turn() as turn:
        assert_type(agent.session_id, str)
        turn.report(prompt_tokens=10, completion_tokens=2)
    gate.sync.begin_turn().end()
    gate.sync.close()


async def integrations(gate: ConcurGate, client: AsyncOpenAI, graph: CompiledStateGraph[State]) -> None:
    assert_type(gate.openai(client), "AsyncOpenAI")
    assert_type(gate.graph(graph), "CompiledStateGraph[State]")

    @gate.node
    async def think(state: State) -> State:
        return state

    @gate.node(kind="critic")
    async def judge(state: State) -> State:
        return state

    @gate.node
    def in_a_thread(state: State) -> State:
        return state

    assert_type(await think({"answer": ""}), State)
    assert_type(await in_a_thread({"answer": ""}), State)


def what_it_says(gate: ConcurGate) -> None:
    assert_type(gate.stats(), GateStats)
    assert_type(gate.history(), tuple[Decision, ...])
    assert_type(gate.waiting(), list[Waiting])


class Mine:
    """A controller of one's own."""

    name = "mine"
    needs_metrics = False

    def decide(self, pool: object, engine: object, now: float) -> Budget:
        return Budget(agents=4, reason="because")


mine: Controller = Mine()
gate = ConcurGate("http://localhost:8000", controller=Mine(), config=GateConfig(max_agents=3), metrics="optional")
