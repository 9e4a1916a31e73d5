"""Lives of agents at a real gate whose admission is watched, for schedules and cancellations to be tried on."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

from admission.naive import Watched

from concur_agents import Agent, Budget, ConcurGate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


class Always:
    """A controller that always decides the same, and needs no server."""

    name = "always"
    needs_metrics = False

    def __init__(self, **budget: Any) -> None:
        self.budget = Budget(**budget)

    def decide(self, pool: object, engine: object, now: float) -> Budget:
        return self.budget


def watched_gate(**budget: Any) -> ConcurGate:
    gate = ConcurGate(controller=Always(**budget))
    gate.admission = Watched(gate.now, gate.totals, passing_limit_s=10)
    return gate


def watch(gate: ConcurGate) -> Watched:
    assert isinstance(gate.admission, Watched)
    return gate.admission


async def turn(agent: Agent, prompt: int, seconds: float = 1) -> None:
    """One call of an agent."""
    async with agent.turn() as turn:
        await asyncio.sleep(seconds)
        turn.report(prompt_tokens=prompt, completion_tokens=10)


async def turns(agent: Agent, prompt: int, number: int) -> None:
    for _ in range(number):
        await turn(agent, prompt)


def as_it_is(coroutine: Coroutine[Any, Any, Any], _: str) -> Coroutine[Any, Any, Any]:
    return coroutine


async def full_life(gate: ConcurGate, name: str, size: int, site: Callable[..., Any] = as_it_is) -> None:
    """An agent that does everything an agent can do; `site` may wrap each coroutine that it starts, by its name."""
    async with gate.agent(name, expected_tokens=size) as agent:
        await turn(agent, size)
        await asyncio.sleep(2)
        await turn(agent, size + 100)
        async with gate.agent(f"{name}-child", nested="new") as child:  # its place is lent meanwhile
            await turn(child, 100)
        stream = await agent.begin_turn()  # open over all that follows
        try:
            async with asyncio.TaskGroup() as group:  # parallel turns, which may be held
                for n in range(2):
                    group.create_task(site(turns(agent, size, 3), f"{name}-parallel-{n}"))
            async with gate.agent(f"{name}-inner", nested="new") as inner:
                await turn(inner, 50)
        finally:
            stream.end()
        async with gate.agent(f"{name}-heir") as heir:  # shares its place
            await turn(heir, 70)


async def govern(gate: ConcurGate, *budgets: Budget, seconds: float = 1.5) -> None:
    """Give a gate one budget after another."""
    for budget in budgets:
        await asyncio.sleep(seconds)
        gate.admission.resize(budget)


UPS_AND_DOWNS = 3 * (Budget(agents=2, tokens=2000), Budget(agents=1), Budget(), Budget(tokens=300), Budget(tokens=500))
"""What `govern` does to agents of some hundred tokens: a shrink while places are held, and growth again."""


class Suspensions:
    """Counts where coroutines wait, and cancels at one of them.

    Args:
        victim: The site whose task is cancelled.
        number: At which of its suspensions, from 1.
        woken: Cancel not when it begins to wait, but in the moment when what it waits for has come.
    """

    def __init__(self, victim: str = "", number: int = 0, *, woken: bool = False) -> None:
        self.victim = victim
        self.number = number
        self.woken = woken
        self.counts: dict[str, int] = {}

    async def __call__(self, coroutine: Coroutine[Any, Any, Any], site: str) -> Any:
        return await self._drive(coroutine, site)

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, Any], site: str) -> Generator[Any, Any, Any]:
        self.counts[site] = 0
        step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
        while True:
            try:
                waited_for = step()
            except StopIteration as end:
                return end.value
            self._suspended(site, waited_for)
            try:
                yield waited_for
                step = lambda: coroutine.send(None)  # noqa: E731
            except BaseException as error:  # noqa: BLE001  handed on to the coroutine
                step = lambda error=error: coroutine.throw(error)  # noqa: E731

    def _suspended(self, site: str, waited_for: asyncio.Future[Any] | None) -> None:
        self.counts[site] += 1
        if site != self.victim or self.counts[site] != self.number:
            return
        task = asyncio.current_task()
        assert task is not None
        if self.woken and waited_for is not None:
            waited_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
