"""Many agents at once: `gather`."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .gate import ConcurGate


def gather(gate: ConcurGate, *agents: Awaitable[Any], return_exceptions: bool = False) -> asyncio.Future[list[Any]]:
    """`asyncio.gather`, each awaitable an agent of the gate; it starts when it is admitted.

    Args:
        gate: Who admits them.
        agents: Coroutines that were not started yet.
        return_exceptions: As in `asyncio.gather`: exceptions stand among the results instead of being raised.

    Returns:
        A future of the results, in the order of the arguments.

    Raises:
        TypeError: For a coroutine function, or a task or future, which is running already.
    """
    try:
        for agent in agents:
            _check(agent)
    except TypeError:
        for agent in agents:
            _close(agent)
        raise
    tasks: dict[int, asyncio.Task[Any]] = {}
    for agent in agents:
        if id(agent) not in tasks:  # as asyncio.gather does: the same coroutine twice runs once
            tasks[id(agent)] = task = asyncio.get_running_loop().create_task(_run(gate, agent))
            task.add_done_callback(functools.partial(_close_after, agent))
    return asyncio.gather(*(tasks[id(agent)] for agent in agents), return_exceptions=return_exceptions)


async def _run(gate: ConcurGate, agent: Awaitable[Any]) -> Any:
    async with gate.agent():
        return await agent


def _check(agent: object) -> None:
    if isinstance(agent, asyncio.Future):
        what = "a task" if isinstance(agent, asyncio.Task) else "a future"
        raise TypeError(
            f"gather got {what}, which is running already and can no longer be held back: "
            "pass the coroutine itself, solve(t) instead of create_task(solve(t))"
        )
    if inspect.iscoroutinefunction(agent):
        raise TypeError(f"gather got the function {agent.__qualname__}: call it, {agent.__name__}(…)")
    if not inspect.isawaitable(agent):
        raise TypeError(f"gather takes coroutines, not {type(agent).__name__}")


def _close_after(agent: object, _: asyncio.Task[Any]) -> None:
    _close(agent)


def _close(agent: object) -> None:
    """Close a coroutine that never started, which would be complained about otherwise; harmless after its end."""
    if inspect.iscoroutine(agent):
        agent.close()
