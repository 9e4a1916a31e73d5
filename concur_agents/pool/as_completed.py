"""`as_completed`: `asyncio.as_completed`, each coroutine an agent."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .progress import Progress
from .start import close, start_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable

    from concur_agents.gate import ConcurGate

T = TypeVar("T")


class AsCompleted(Iterator["Coroutine[Any, Any, T]"], AsyncIterator["asyncio.Task[T]"], Generic[T]):
    """What runs, in the order in which it ends; for `for` and for `async for`, as of Python 3.13's asyncio."""

    def __init__(self, tasks: Iterable[asyncio.Task[T]], timeout: float | None) -> None:
        self._running = set(tasks)
        self._to_give = len(self._running)
        self._ended: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
        for task in self._running:
            task.add_done_callback(self._on_end)
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None and self._running:
            self._timer = asyncio.get_running_loop().call_later(timeout, self._on_timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Coroutine[Any, Any, T]:
        if not self._to_give:
            raise StopIteration
        self._to_give -= 1
        return self._next_result()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> asyncio.Task[T]:
        if not self._to_give:
            raise StopAsyncIteration
        self._to_give -= 1
        return await self._next_task()

    async def _next_result(self) -> T:
        return (await self._next_task()).result()

    async def _next_task(self) -> asyncio.Task[T]:
        task = await self._ended.get()
        if task is None:
            raise TimeoutError
        return task

    def _on_end(self, task: asyncio.Task[T]) -> None:
        self._running.discard(task)
        self._ended.put_nowait(task)
        if not self._running and self._timer is not None:
            self._timer.cancel()

    def _on_timeout(self) -> None:
        for task in self._running:
            task.remove_done_callback(self._on_end)
            self._ended.put_nowait(None)
        self._running.clear()


def as_completed(
    gate: ConcurGate, aws: Iterable[Awaitable[T]], *, timeout: float | None = None, progress: bool = False
) -> AsCompleted[T]:
    """`asyncio.as_completed`, each awaitable an agent of the gate.

    `for next_one in gate.as_completed(aws): result = await next_one`, or `async for task in …: result = await task`.
    As in asyncio, those that have not ended when the loop is left or the time is up go on.

    Args:
        gate: Who admits them.
        aws: Coroutines that were not started yet.
        timeout: How long from now until `TimeoutError` is raised instead of the next result. [s]
        progress: Show on stderr how far it is.

    Returns:
        An iterator and asynchronous iterator.

    Raises:
        TypeError: For a single coroutine, a coroutine function, or a task or future, which is running already.
        RuntimeError: Outside a running event loop.
    """
    if inspect.isawaitable(aws):
        close(aws)
        raise TypeError(
            f"as_completed takes many coroutines, as in [solve(t) for t in tasks], not {type(aws).__name__}"
        )
    tasks, _ = start_all(gate, aws, "as_completed")
    if progress and tasks:
        Progress(gate, len(tasks)).watch(tasks.values())
    return AsCompleted(tasks.values(), timeout)
