"""Calls that a strict type checker must accept, with the types that users see. Checked by `make lint`, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, assert_type

from concur_agents import Agent, Budget, ConcurGate, Controller, Decision, GateConfig, GateStats, Turn, Waiting

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from openai import AsyncOpenAI


class State(TypedDict):
    answer: str


async def solve(number: int) -> str:
    return str(number)


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
    results = await gate.gather(*(solve(n) for n in range(3)), return_exceptions=True)
    assert_type(len(results), int)


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
