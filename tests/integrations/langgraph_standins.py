"""A gate with the face of ConcurGate and a book of who came and went; and ways to compare two runs."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

import pytest
from langgraph import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SOME_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_SOME_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")


since_1_2 = pytest.mark.skipif(not hasattr(errors, "GraphDrained"), reason="came with LangGraph 1.2")


class StandInAgent:
    def __init__(self, gate: StandInGate, name: str | None, kind: str | None) -> None:
        self.gate, self.name, self.kind = gate, name, kind
        self.session_id = f"session of {name}"
        self.turns = self.prompt_tokens = 0
        self.footprint = 0.0
        self.finished = False
        self.parent: StandInAgent | None = None
        self._token: Token[StandInAgent | None] | None = None

    async def __aenter__(self) -> StandInAgent:
        self.parent = self.gate.current()
        if self.parent is None:
            await self.gate.places.acquire()
            self.gate.held += 1
            self.gate.most_held = max(self.gate.most_held, self.gate.held)
            self.gate.admitted.append(self)
        else:
            self.gate.inherited.append(self)
        self._token = self.gate.variable.set(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert not self.finished, "a place was returned twice"
        self.finished = True
        if self.parent is None:
            self.gate.held -= 1
            self.gate.places.release()
        # Raises ValueError in any context but the one it was entered in: no integration may need that.
        self.gate.variable.reset(self._token)


class StandInTurn:
    def __init__(self, gate: StandInGate) -> None:
        self.gate = gate
        self.state = "waiting"
        self.usage: dict[str, int | None] | None = None
        self.one_turn_agent: StandInAgent | None = None

    async def __aenter__(self) -> StandInTurn:
        await self.gate.unpaused.wait()
        if self.gate.current() is None:
            self.one_turn_agent = StandInAgent(self.gate, None, None)
            await self.one_turn_agent.__aenter__()
        outer = self.gate.open_turn.get()
        if outer is not None:
            outer.state = "dissolved"
        self._token = self.gate.open_turn.set(self)
        self.state = "open"
        self.gate.turns.append(self)
        return self

    def report(self, **usage: int | None) -> None:
        if self.state == "open":
            self.usage = usage

    async def __aexit__(self, *exc: object) -> None:
        self.gate.open_turn.reset(self._token)
        if self.state == "open":
            self.state = "ended"
        if self.one_turn_agent is not None:
            await self.one_turn_agent.__aexit__()


class StandInGate:
    """As many places as given; agents inside agents share a place; turns wait while `unpaused` is clear."""

    def __init__(self, places: int = 100) -> None:
        self.places = asyncio.Semaphore(places)
        self.unpaused = asyncio.Event()
        self.unpaused.set()
        self.variable: ContextVar[StandInAgent | None] = ContextVar("agent", default=None)
        self.open_turn: ContextVar[StandInTurn | None] = ContextVar("turn", default=None)
        self.held = self.most_held = 0
        self.admitted: list[StandInAgent] = []
        self.inherited: list[StandInAgent] = []
        self.turns: list[StandInTurn] = []

    def agent(
        self, name: str | None = None, *, kind: str | None = None, expected_tokens: float | None = None
    ) -> StandInAgent:
        return StandInAgent(self, name, kind)

    def current(self) -> StandInAgent | None:
        agent = self.variable.get()
        return None if agent is None or agent.finished else agent

    def turn(self) -> StandInTurn:
        return StandInTurn(self)

    @property
    def all_returned(self) -> bool:
        everyone = [*self.admitted, *self.inherited]
        ended = all(turn.state in ("ended", "dissolved") for turn in self.turns)
        return self.held == 0 and ended and all(agent.finished for agent in everyone)


def told(value: Any) -> str:
    """What a value says, but for the ids and times that differ in any two runs."""
    return _SOME_TIME.sub("<time>", _SOME_ID.sub("<id>", repr(value)))


async def outcome(awaitable: Any) -> str:
    """What a caller gets, be it a result or an error."""
    try:
        return told(await awaitable)
    except Exception as error:  # noqa: BLE001  # which one is what is compared
        return told((type(error), error))


async def items_of(stream: Any) -> list[str]:
    """What a reader gets, and the error at its end if there is one."""
    items = []
    try:
        async for item in stream:
            items.append(told(item))  # noqa: PERF401  # an error must not lose the items before it
    except Exception as error:  # noqa: BLE001  # which one is what is compared
        items.append(told((type(error), error)))
    return items


@asynccontextmanager
async def another_agent(gate: Any, tokens: float = 0.0) -> AsyncIterator[None]:
    """An agent in a task of its own that has had a turn and keeps its place: what starts meanwhile is not inside it."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def keeps() -> None:
        async with gate.agent("another", expected_tokens=tokens) as agent:
            async with agent.turn():
                pass
            entered.set()
            await leave.wait()

    keeping = asyncio.create_task(keeps())
    await entered.wait()
    try:
        yield
    finally:
        leave.set()
        await keeping
