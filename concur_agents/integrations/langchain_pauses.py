"""Pause points for LangChain: from coroutines, and from the threads in which it runs synchronous code."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from concur_agents.agent import in_turn
from concur_agents.errors import MissingExtra, WrongLoop
from concur_agents.sync.handover import running_loop

try:
    from langchain_core.rate_limiters import BaseRateLimiter
except ImportError as missing:
    raise MissingExtra("LangChain is not installed: pip install 'concur-agents[langchain]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from concur_agents.agent import Turn
    from concur_agents.gate import ConcurGate

LOOK_EVERY_S = 1.0
"""A loop that stops tells nobody: who waits for it looks so often. [s]"""

ANSWER_LIMIT_S = 10.0
"""How long a running event loop may take to answer a thread before it counts as blocked by a synchronous run. [s]"""


def gate_rate_limiter(gate: ConcurGate) -> BaseRateLimiter:
    """A rate limiter that makes every call of a chat model a pause point: `ChatAnything(…, rate_limiter=…)`.

    The agent is counted and can be paused, but its tokens are not seen; where more is possible, use
    `ConcurMiddleware`, `ConcurCallbackHandler` or `chat_openai`. Inside a turn of one of those it has nothing to do.
    A call outside any agent waits until there is room for one more and takes none.

    Args:
        gate: Who pauses.
    """
    return _GateRateLimiter(gate)


class _GateRateLimiter(BaseRateLimiter):
    def __init__(self, gate: ConcurGate) -> None:
        self._gate = gate

    async def aacquire(self, *, blocking: bool = True) -> bool:
        try:
            async with asyncio.timeout(None if blocking else 0) as limit:
                await self._pause()
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        return True

    def acquire(self, *, blocking: bool = True) -> bool:
        loop = loop_beside(self._gate)
        pause = asyncio.run_coroutine_threadsafe(self.aacquire(blocking=blocking), loop)
        try:
            return pause.result()
        except BaseException:
            pause.cancel()
            raise

    async def _pause(self) -> None:
        agent = self._gate.current()
        if agent is not None and in_turn(agent.place):
            return
        turn = await self._gate.begin_turn()
        turn.dissolve()
        end_with_its_agent(turn)


def end_with_its_agent(turn: Turn) -> None:
    """End a turn, and the agent that was made for it, if one was: a dissolved turn does not end that by itself."""
    turn.end()
    if turn.on_end is not None:
        turn.on_end()


def in_loop(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Let an event loop end something, from any thread and in the middle of anything."""
    # Where the loop is closed, nobody waits at this gate any more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(end)


def at_once(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """The same, and wait until it is done: what this thread begins next has to find it ended."""
    done = threading.Event()

    def act() -> None:
        try:
            end()
        finally:
            done.set()

    in_loop(loop, act)
    while not done.wait(LOOK_EVERY_S) and loop.is_running():
        pass


def loop_beside(gate: ConcurGate) -> asyncio.AbstractEventLoop:
    """The event loop that the gate is on, or will be, running in another thread and free to answer this one.

    Raises:
        WrongLoop: If waiting for it here would block it.
    """
    if running_loop() is not None:
        raise WrongLoop(f"a synchronous call would block the event loop while it waits for its turn: {_INSTEAD}")
    loop = gate.sync.loop()
    # A synchronous run on the loop's own thread may come here all the same, from threads that it starts.
    alive = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
    try:
        alive.result(ANSWER_LIMIT_S)
    except TimeoutError:
        alive.cancel()
        raise WrongLoop(
            f"the event loop did not answer within {ANSWER_LIMIT_S:g} s, so a synchronous run blocks it: {_INSTEAD}"
        ) from None
    return loop


_INSTEAD = (
    "use `await ….ainvoke(…)`, `….astream(…)` or `await ….abatch(…)`, or run the synchronous code in a thread, as in "
    "`await asyncio.to_thread(agent.invoke, …)`"
)
