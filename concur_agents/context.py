"""Whose code runs here: the agent and the turn around it, found through context variables."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from .agent import Agent, Desk, Turn
    from .place import Place


class OuterTurn(Protocol):
    """What a turn around other code can be asked for."""

    @property
    def agent(self) -> Agent:
        """Whose turn it is."""

    def dissolve(self) -> None:
        """Become a place to pause: the turns inside are the ones that count."""


_CURRENT: ContextVar[Mapping[int, Agent] | None] = ContextVar("concur_agents_current", default=None)
"""The agent of this context, by `id` of its gate."""

_OUTER: ContextVar[OuterTurn | None] = ContextVar("concur_agents_outer_turn", default=None)
"""The turn around this code, that dissolves into a pause point if another begins inside it."""


def current_agent(desk: Desk) -> Agent | None:
    """The agent of this context at this gate, None outside of any and after its end."""
    agent = (_CURRENT.get() or {}).get(id(desk))
    return None if agent is None or agent.finished else agent


def _bind(agent: Agent) -> Token[Mapping[int, Agent] | None]:
    return _CURRENT.set({**(_CURRENT.get() or {}), id(agent.desk): agent})


def in_a_turn(desk: Desk) -> bool:
    """Whether this code runs inside a turn of this gate."""
    outer = _OUTER.get()
    return outer is not None and outer.agent.desk is desk


def dissolve_outer(place: Place) -> None:
    """Turn the turn around this code, if it is of this place, into a mere pause point."""
    outer = _OUTER.get()
    if outer is not None and outer.agent.place is place:
        outer.dissolve()


def outer_turn() -> OuterTurn | None:
    """The turn around this code, at whichever gate; None outside of any."""
    return _OUTER.get()


def stay_in(agent: Agent) -> None:
    """Make an agent the current one for all that follows in this context, where no block can be put around it."""
    _bind(agent)


def swap_outer(turn: OuterTurn | None) -> OuterTurn | None:
    """Make a turn the one around the code that follows in this context; returns the one that was."""
    outer = _OUTER.get()
    _OUTER.set(turn)
    return outer


@contextlib.contextmanager
def inside(turn: Turn) -> Iterator[None]:
    """Run some code of a turn as inside it, where `TurnContext` cannot hold all of it: a generator's steps."""
    outer, current = _OUTER.set(turn), _bind(turn.agent)
    try:
        yield
    finally:
        _reset(_OUTER, outer)
        _reset(_CURRENT, current)


class TurnContext:
    """`async with` around a turn."""

    __slots__ = ("_begin", "_current_token", "_outer_token", "_turn")

    def __init__(self, begin: Callable[[], Awaitable[Turn]]) -> None:
        self._begin = begin

    async def __aenter__(self) -> Turn:
        self._turn = turn = await self._begin()
        self._outer_token = _OUTER.set(turn)
        self._current_token = _bind(turn.agent)
        return turn

    async def __aexit__(self, *exc: object) -> None:
        _reset(_OUTER, self._outer_token)
        _reset(_CURRENT, self._current_token)
        self._turn.end()
        if self._turn.on_end is not None:  # a dissolved turn does not end its agent; the end of the block does
            self._turn.on_end()


class AgentContext:
    """`async with` around an agent: waits for its place, and gives it back however the block is left."""

    __slots__ = ("_admit", "_agent", "_token")

    def __init__(self, admit: Callable[[], Awaitable[Agent]]) -> None:
        self._admit = admit
        self._agent: Agent | None = None

    async def __aenter__(self) -> Agent:
        if self._agent is not None:
            raise RuntimeError("this agent was entered already: call gate.agent() anew for each run")
        self._agent = agent = await self._admit()
        self._token = _bind(agent)
        return agent

    async def __aexit__(self, *exc: object) -> None:
        if self._agent is not None:
            _reset(_CURRENT, self._token)
            self._agent.finish()


_V = TypeVar("_V")


def _reset(variable: ContextVar[_V], token: Token[_V]) -> None:
    # Left in another context than it was entered in (an async generator closed elsewhere): that one's value is its own.
    with contextlib.suppress(ValueError):
        variable.reset(token)
