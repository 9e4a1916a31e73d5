"""The import that takes the place of `from asyncio import gather`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from concur_agents.gate import ConcurGate

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")


@overload
def gather(  # type: ignore[overload-overlap]  # as in typeshed: False is a bool too
    first: Awaitable[T1],
    second: Awaitable[T2],
    /,
    *,
    gate: ConcurGate,
    return_exceptions: Literal[False] = False,
    progress: bool = False,
) -> asyncio.Future[tuple[T1, T2]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # as in typeshed: False is a bool too
    first: Awaitable[T1],
    second: Awaitable[T2],
    third: Awaitable[T3],
    /,
    *,
    gate: ConcurGate,
    return_exceptions: Literal[False] = False,
    progress: bool = False,
) -> asyncio.Future[tuple[T1, T2, T3]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # as in typeshed: False is a bool too
    first: Awaitable[T1],
    second: Awaitable[T2],
    third: Awaitable[T3],
    fourth: Awaitable[T4],
    /,
    *,
    gate: ConcurGate,
    return_exceptions: Literal[False] = False,
    progress: bool = False,
) -> asyncio.Future[tuple[T1, T2, T3, T4]]: ...
@overload
def gather(
    *agents: Awaitable[T], gate: ConcurGate, return_exceptions: Literal[False] = False, progress: bool = False
) -> asyncio.Future[list[T]]: ...
@overload
def gather(
    *agents: Awaitable[T], gate: ConcurGate, return_exceptions: bool, progress: bool = False
) -> asyncio.Future[list[T | BaseException]]: ...
def gather(
    *agents: Awaitable[Any], gate: ConcurGate, return_exceptions: bool = False, progress: bool = False
) -> asyncio.Future[Any]:
    """`asyncio.gather` with one argument more, `gate`: `from concur_agents import gather`. See `gate.gather`.

    Args:
        agents: Coroutines that were not started yet.
        gate: Who admits them.
        return_exceptions: As in `asyncio.gather`.
        progress: Show on stderr how far it is.

    Returns:
        A future of the list of results, in the order of the arguments.

    Raises:
        TypeError: For a coroutine function, or a task or future, which is running already.
        RuntimeError: Outside a running event loop.
    """
    return gate.gather(*agents, return_exceptions=return_exceptions, progress=progress)
