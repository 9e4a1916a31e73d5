"""How a coroutine becomes an agent: what can, and that one which never started is closed."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from concur_agents.agent import Nested
    from concur_agents.gate import ConcurGate

T = TypeVar("T")


def start_all(
    gate: ConcurGate, agents: Iterable[Awaitable[T]], what: str
) -> tuple[dict[Awaitable[T], asyncio.Task[T]], list[Awaitable[T]]]:
    """Let each awaitable be run by a task of its own, as an agent; the same one given twice runs once.

    Args:
        gate: Who admits them.
        agents: Coroutines that were not started yet.
        what: What the user called, for errors.

    Returns:
        The tasks by what they run, in the order given, and what was given.

    Raises:
        TypeError: For what cannot be held back: a task, a future, a function. The coroutines are closed.
        RuntimeError: Outside a running event loop. The coroutines are closed.
    """
    given = list(agents)
    try:
        for agent in given:
            check(agent, what)
        distinct = dict.fromkeys(given)  # by equality, as asyncio tells them apart
        loop = asyncio.get_running_loop()
    except BaseException:
        for agent in given:
            close(agent)
        raise
    return {agent: start(gate, agent, loop.create_task) for agent in distinct}, given


def start(
    gate: ConcurGate,
    agent: Awaitable[T],
    create_task: Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]],
    *,
    name: str | None = None,
    kind: str | None = None,
    nested: Nested = "inherit",
) -> asyncio.Task[T]:
    """Let an awaitable be run by a new task, as an agent.

    Args:
        gate: Who admits it.
        agent: A coroutine that was not started yet. It is closed if it never starts.
        create_task: What makes the task.
        name: The agent's name.
        kind: The agent's kind.
        nested: What it does inside another agent, as in `gate.agent`.

    Raises:
        Exception: What `create_task` raises.
    """
    run = _run(gate, agent, name, kind, nested)
    try:
        task = create_task(run)
    except BaseException:
        run.close()
        close(agent)
        raise
    task.add_done_callback(functools.partial(_close_after, agent))
    return task


async def _run(gate: ConcurGate, agent: Awaitable[T], name: str | None, kind: str | None, nested: Nested) -> T:
    async with gate.agent(name, kind=kind, nested=nested):
        return await agent


def check(agent: object, what: str) -> None:
    """Refuse what cannot be held back at the gate.

    Raises:
        TypeError: It says what to pass instead.
    """
    if isinstance(agent, asyncio.Future):
        kind = "a task" if isinstance(agent, asyncio.Task) else "a future"
        raise TypeError(
            f"{what} got {kind}, which is running already and can no longer be held back: "
            "pass the coroutine itself, solve(t) instead of create_task(solve(t))"
        )
    if inspect.iscoroutinefunction(agent):
        raise TypeError(f"{what} got the function {agent.__qualname__}: call it, {agent.__name__}(…)")
    if not inspect.isawaitable(agent):
        raise TypeError(f"{what} takes coroutines, not {type(agent).__name__}")


def close(agent: object) -> None:
    """Close a coroutine that never started, which would be complained about otherwise; harmless after its end."""
    if inspect.iscoroutine(agent) and inspect.getcoroutinestate(agent) == inspect.CORO_CREATED:
        agent.close()


def _close_after(agent: object, _: asyncio.Task[Any]) -> None:
    close(agent)
