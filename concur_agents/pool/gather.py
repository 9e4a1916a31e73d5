"""`gather`: `asyncio.gather`, each coroutine an agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from .progress import Progress
from .start import start_all

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from concur_agents.gate import ConcurGate

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")


@overload
def gather(  # type: ignore[overload-overlap]  # as in typeshed: False is a bool too
    gate: ConcurGate,
    first: Awaitable[T1],
    second: Awaitable[T2],
    /,
    *,
    return_exceptions: Literal[False] = False,
    progress: bool = False,
) -> asyncio.Future[tuple[T1, T2]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # as in typeshed: False is a bool too
    gate: ConcurGate,
    first: Awaitable[T1],
    second: Awaitable[T2],
    third: Awaitable[T3],
    /,
    *,
    return_exceptions: Literal[False] = False,
    progress: bool = False,
) -> asyncio.Future[tuple[T1, T2, T3]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # as in typeshed: False is a bool too
    gate: ConcurGate,
    first: Awaitable[T1],
    second: Awaitable[T2],
    third: Awaitable[T3],
    fourth: Awaitable[T4],
    /,
    *,
    return_exceptions: Literal[False] = False,
    progress: bool = False,
) -> asyncio.Future[tuple[T1, T2, T3, T4]]: ...
@overload
def gather(
    gate: ConcurGate, /, *agents: Awaitable[T], return_exceptions: Literal[False] = False, progress: bool = False
) -> asyncio.Future[list[T]]: ...
@overload
def gather(
    gate: ConcurGate, /, *agents: Awaitable[T], return_exceptions: bool, progress: bool = False
) -> asyncio.Future[list[T | BaseException]]: ...
def gather(
    gate: ConcurGate, /, *agents: Awaitable[Any], return_exceptions: bool = False, progress: bool = False
) -> asyncio.Future[Any]:
    """`asyncio.gather`, each awaitable an agent of the gate; it starts when it is admitted.

    Args:
        gate: Who admits them.
        agents: Coroutines that were not started yet.
        return_exceptions: As in `asyncio.gather`: exceptions stand among the results instead of being raised.
        progress: Show on stderr how far it is.

    Returns:
        A future of the list of results, in the order of the arguments.

    Raises:
        TypeError: For a coroutine function, or a task or future, which is running already.
        RuntimeError: Outside a running event loop.
    """
    tasks, given = start_all(gate, agents, "gather")
    outcome: asyncio.Future[list[Any]] = asyncio.gather(
        *(tasks[agent] for agent in given), return_exceptions=return_exceptions
    )
    if progress and tasks:
        Progress(gate, len(tasks)).watch(tasks.values())
    return outcome
