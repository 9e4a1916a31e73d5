"""A function over any number of items, each an agent, the results in the order of the items."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Generator, Iterable, Sized
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from concur_agents.errors import ConcurError

from .checkpoint import Checkpoint, canonical
from .progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from concur_agents.agent import Nested
    from concur_agents.gate import ConcurGate

log = logging.getLogger("concur_agents")

T = TypeVar("T")
R = TypeVar("R")

HELD_RESULTS = 1024
"""Results that may wait for a slower one before them. One slow agent then holds up nobody in all but huge batches, and
1,024 results of 100 kB are 100 MB."""


class Batch(AsyncIterator[R], Awaitable["list[R]"], Generic[R]):
    """The results of `gate.map`: `async for` gives them one by one, `await` all in a list.

    Nothing runs until the first is asked for. Left half-way (`break`, an error, a cancellation, `aclose`), it cancels
    what runs and waits for it; `break` does so as soon as the batch is not referred to any more, as for any
    asynchronous generator; `async with contextlib.aclosing(gate.map(…)) as results:` does so at once.
    """

    def __init__(self, work: Work[Any, R]) -> None:
        self._work = work
        self._results = work.results()
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[R]:
        self._begun = True
        return self._results.__anext__()

    def __await__(self) -> Generator[Any, Any, list[R]]:
        return self._collect().__await__()

    async def aclose(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        await self._results.aclose()

    async def _collect(self) -> list[R]:
        if self._begun:
            raise RuntimeError("this batch was begun already: call gate.map() anew")
        self._begun = True
        self._work.hold_back = False  # all results are kept anyhow
        async with aclosing(self._results) as results:
            return [result async for result in results]


class Work(Generic[T, R]):
    """The items that were taken, and what has become of them; the arguments are those of `map_items`."""

    def __init__(
        self,
        gate: ConcurGate,
        fn: Callable[[T], Awaitable[Any]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        name: Callable[[T], str] | None,
        kind: str | Callable[[T], str] | None,
        nested: Nested,
        retries: int,
        checkpoint: str | os.PathLike[str] | None,
        key: Callable[[T], object] | None,
        progress: bool,
        return_exceptions: bool,
    ) -> None:
        self.hold_back = True
        self._gate = gate
        self._fn = fn
        self._items = items if isinstance(items, AsyncIterable) else iter(items)
        self._total = len(items) if isinstance(items, Sized) else None
        self._name = name
        self._kind = kind
        self._nested = nested
        self._retries = retries
        self._path = checkpoint
        self._key = key
        self._show = progress
        self._return_exceptions = return_exceptions
        self._slots: deque[asyncio.Future[R]] = deque()
        self._taken = asyncio.Event()
        self._room = asyncio.Event()
        self._held = 0
        self._stop = False
        self._checkpoint: Checkpoint | None = None
        self._progress: Progress | None = None

    async def results(self) -> AsyncGenerator[R, None]:
        """The results in order; ends what runs when it is left."""
        self._checkpoint = Checkpoint(self._path) if self._path is not None else None
        try:
            self._progress = Progress(self._gate, self._total) if self._show else None
            feeder = asyncio.get_running_loop().create_task(self._feed(contextvars.copy_context()))
            feeder.add_done_callback(lambda _: self._taken.set())
            try:
                while await self._next_ended(feeder):
                    yield self._give()
            finally:
                self._stop = True
                await _cancel_all([feeder, *self._slots])
        finally:
            if self._progress is not None:
                self._progress.close()
            if self._checkpoint is not None:
                self._checkpoint.close()

    async def _next_ended(self, feeder: asyncio.Task[None]) -> bool:
        """Wait until the first of those not given yet has ended; False if there are no more."""
        while not self._slots:
            if feeder.done():
                feeder.result()
                return False
            self._taken.clear()
            await self._taken.wait()
        if not self._slots[0].done():
            await asyncio.wait([self._slots[0]])
        return True

    def _give(self) -> R:
        slot = self._slots.popleft()
        self._held -= 1
        self._room.set()
        if self._return_exceptions:
            error = asyncio.CancelledError() if slot.cancelled() else slot.exception()
            if error is not None:
                return error  # type: ignore[return-value]  # then R has BaseException in it, see `map_items`
        return slot.result()

    async def _feed(self, context: contextvars.Context) -> None:
        """Take an item when the one before is admitted, so that one waits and the others are not even made."""
        loop = asyncio.get_running_loop()
        number = 0
        async with aclosing(_each(self._items)) as items:
            async for item in items:
                if self._over():
                    return
                name = f"item {number}"
                key = self._key_of(item, name)
                entered: asyncio.Future[None] = loop.create_future()
                slot = self._stored(key)
                if slot is None:
                    # In the context of who asks for the results, and not in that of who makes the items.
                    slot = loop.create_task(self._solve(item, name, key, entered), context=context.copy())
                slot.add_done_callback(self._on_end)
                slot.add_done_callback(functools.partial(_set, entered))
                self._slots.append(slot)
                self._taken.set()
                number += 1
                await entered
                while self.hold_back and self._held >= HELD_RESULTS:
                    self._room.clear()
                    await self._room.wait()
                if self._over():
                    return

    def _over(self) -> bool:
        """Whether no more items are wanted. A source that swallows its cancellation may still give some."""
        return self._stop

    def _key_of(self, item: T, name: str) -> str:
        if self._checkpoint is None:
            return ""
        return canonical(self._key(item) if self._key is not None else item, name)

    def _stored(self, key: str) -> asyncio.Future[R] | None:
        found, result = self._checkpoint.take(key) if self._checkpoint is not None else (False, None)
        if not found:
            return None
        slot: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        slot.set_result(result)
        return slot

    async def _solve(self, item: T, name: str, key: str, entered: asyncio.Future[None]) -> R:
        result = await self._try(item, name, entered)
        return self._checkpoint.add(key, name, result) if self._checkpoint is not None else result

    async def _try(self, item: T, name: str, entered: asyncio.Future[None]) -> R:
        failures = 0
        while True:
            try:
                agent_name = self._name(item) if self._name is not None else None
                kind = self._kind(item) if callable(self._kind) else self._kind
                async with self._gate.agent(agent_name, kind=kind, nested=self._nested):
                    _set(entered)
                    result: R = await _call(self._fn, item)
                    return result
            except ConcurError:  # of the gate itself: the next try would meet it too
                raise
            except Exception as error:
                failures += 1
                if failures > self._retries:
                    raise
                # Not its message: a server may repeat a key or a prompt in it. The last one is raised whole.
                kind_of_error = type(error).__qualname__
                log.warning("%s failed and is tried again (%d of %d): %s", name, failures, self._retries, kind_of_error)

    def _on_end(self, slot: asyncio.Future[R]) -> None:
        self._held += 1
        if self._progress is not None and not slot.cancelled():
            self._progress.step()
        if not self._return_exceptions and (slot.cancelled() or slot.exception() is not None):
            self._stop = True  # nothing after it will be given


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _call(fn: Callable[[T], Awaitable[Any]], item: T) -> Any:
    pending = fn(item)
    if not inspect.isawaitable(pending):
        raise TypeError(
            f"map calls asynchronous functions, and {getattr(fn, '__qualname__', fn)} gave a {type(pending).__name__}: "
            "make it `async def`, or run it in a thread, as in lambda item: asyncio.to_thread(solve, item)"
        )
    return await pending


def _set(entered: asyncio.Future[None], _: object = None) -> None:
    if not entered.done():
        entered.set_result(None)


async def _cancel_all(tasks: list[asyncio.Future[Any]]) -> None:
    """Cancel and wait until all have ended, even if this is cancelled meanwhile; their errors count as seen."""
    interrupted: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            interrupted = error
            for task in running:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if interrupted is not None:
        raise interrupted
