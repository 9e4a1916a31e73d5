"""From a thread to the event loop that the gate is on, and back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from concur_agents.errors import GateClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""A loop that is closed tells nobody: who waits for it looks so often. [s]"""


class LoopThread:
    """An event loop in a thread of its own, until `stop`, the end of whoever holds this, or of the interpreter."""

    def __init__(self) -> None:
        started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = (
            concurrent.futures.Future()
        )
        self._thread = threading.Thread(
            target=asyncio.run, args=(_until_stopped(started),), name="concur-agents sync", daemon=True
        )
        self._thread.start()
        self.loop, stop = started.result()
        self._finalizer = weakref.finalize(self, post, self.loop, stop.set)

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop the loop and wait until its thread has ended."""
        self._finalizer()
        self._thread.join()


async def _until_stopped(
    started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]],
) -> None:
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


class Call(Generic[T]):
    """A coroutine that runs on a loop for a thread that waits for it, in a copy of that thread's context.

    Args:
        loop: Where it runs.
        make: Makes the coroutine.
        undo: Called on the loop with a result that came when nobody waited for it any more (Ctrl-C).
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]], undo: Callable[[T], None]
    ) -> None:
        self._loop = loop
        self._make = make
        self._undo = undo
        self._context = contextvars.copy_context()
        self._outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._task: asyncio.Task[T] | None = None
        self._abandoned = False

    def result(self) -> T:
        """Run it and wait for its result.

        Raises:
            GateClosed: If the loop ends before it does.
        """
        if not post(self._loop, self._begin):
            raise _loop_ended()
        try:
            return _wait(self._outcome, self._loop)
        except BaseException:
            post(self._loop, self._abandon)
            raise

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._make(), context=self._context)
        self._task.add_done_callback(self._deliver)

    def _deliver(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._outcome.set_exception(_loop_ended())
        elif (error := task.exception()) is not None:
            self._outcome.set_exception(error)
        elif self._abandoned:
            self._undo(task.result())
        else:
            self._outcome.set_result(task.result())

    def _abandon(self) -> None:
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()
        if self._outcome.done() and self._outcome.exception() is None:
            self._undo(self._outcome.result())


def do(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """Do something on a loop and wait for it. Nothing to do if the loop has ended: its places went with it."""
    if running_loop() is loop:  # a generator that was left half-way can be closed in any thread
        action()
        return
    outcome: concurrent.futures.Future[None] = concurrent.futures.Future()

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  handed on to who waits
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    if post(loop, act):
        try:
            _wait(outcome, loop)
        except GateClosed:
            return


def _wait(outcome: concurrent.futures.Future[T], loop: asyncio.AbstractEventLoop) -> T:
    while True:
        try:
            return outcome.result(LOOK_EVERY_S)
        except concurrent.futures.TimeoutError:
            if outcome.done():  # a TimeoutError of its own
                return outcome.result()
            if loop.is_closed():
                raise _loop_ended() from None


def post(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> bool:
    """Let something be done on a loop, without waiting for it; False if the loop is closed."""
    try:
        loop.call_soon_threadsafe(action)
    except RuntimeError:
        return False
    return True


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _loop_ended() -> GateClosed:
    return GateClosed("the event loop that the gate was on has ended: keep it running until its threads are done")
