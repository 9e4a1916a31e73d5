"""From a thread to the event loop that the gate is on, and back."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from concur_agents.errors import GateClosed

from .mailbox import post

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""A loop that is closed tells nobody: who waits for it looks so often. [s]"""


class Outcome(Generic[T]):
    """What becomes of something done on the loop: settled there once, waited for in one thread.

    Whoever settles it never blocks, wherever Ctrl-C meets the one who waits. A `Condition`, and so an `Event` or a
    `concurrent.futures.Future`, cannot promise that: interrupted between taking its lock and releasing it, the thread
    would keep the lock for ever, and the loop would wait for it.
    """

    def __init__(self) -> None:
        self.wanted = True
        """Set to False by who waited, and has gone."""
        self.settled = False
        self.succeeded = False
        """Whether it was settled by a value."""
        self._value: T | None = None
        self._error: BaseException | None = None
        self._news = threading.Lock()
        self._news.acquire()

    def settle(self, value: T) -> None:
        """Tell what came of it."""
        self._value = value
        self.succeeded = True
        self._tell()

    def fail(self, error: BaseException) -> None:
        """Tell why nothing came of it."""
        self._error = error
        self._tell()

    def wait(self, timeout: float = -1) -> bool:
        """Wait until it is settled, for no more than so many seconds; whether it is. [s]"""
        return self.settled or self._news.acquire(timeout=timeout)

    def take(self) -> T:
        """What came of it, once it is settled; raises what it failed with."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or the error, by its traceback, would keep itself and all frames on its way alive
        return cast("T", self._value)

    def _tell(self) -> None:
        self.settled = True
        self._news.release()


class LoopThread:
    """An event loop in a thread of its own, until `stop`, the end of whoever holds this, or of the interpreter."""

    def __init__(self) -> None:
        started: Outcome[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Outcome()
        self._process = os.getpid()  # a fork takes no thread along
        self._thread = threading.Thread(target=_run, args=(started,), name="concur-agents sync", daemon=True)
        try:
            self._thread.start()
            started.wait()
            self.loop, stop = started.take()
            self._finalizer = weakref.finalize(self, post, self.loop, stop.set)
        except BaseException:
            started.wanted = False  # it looks at this after it has settled, so that one of the two sees the other
            if started.settled:
                loop, stop = started.take()
                post(loop, stop.set)
            raise

    @property
    def alive(self) -> bool:
        """Whether its thread still runs, in this process.

        `Thread.is_alive` takes a lock, and a thread for ended for good if Ctrl-C meets it there (CPython 3.11).
        """
        return self._process == os.getpid() and not self.loop.is_closed()

    def stop(self) -> None:
        """Stop the loop and wait until its thread has ended."""
        self._finalizer()
        self._thread.join()


def _run(started: Outcome[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    asyncio.run(_until_stopped(started))


async def _until_stopped(started: Outcome[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    started.settle((asyncio.get_running_loop(), stop))
    if started.wanted:
        await stop.wait()


class Call(Generic[T]):
    """A coroutine that runs on a loop for a thread that waits for it, in a copy of that thread's context.

    Its result is held until `end` or `end_soon`, one of which must follow `result`, whether that returns or raises.
    What becomes of a call that is ended half-way is decided on the loop, where nothing can come in between.

    Args:
        loop: Where it runs.
        make: Makes the coroutine.
        undo: Called on the loop, at the end, with a result that the thread never got (Ctrl-C).
        leave: Called on the loop, at the end, with a result that it got.
        at_once: Called on the loop first, in the same context: unless it returns None, that is the result, and no
            coroutine is made, nor the task that would cost more than what most of them do.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Coroutine[Any, Any, T]],
        *,
        undo: Callable[[T], None],
        leave: Callable[[T], None],
        at_once: Callable[[], T | None] = lambda: None,
    ) -> None:
        self.loop = loop
        self._make = make
        self._at_once = at_once
        self._undo = undo
        self._leave = leave
        self._context = contextvars.copy_context()
        self._outcome: Outcome[T] = Outcome()
        self._task: asyncio.Task[T] | None = None
        self._got = False
        self._ended = False

    def result(self) -> T:
        """Run it and wait for its result.

        Raises:
            GateClosed: If the loop ends before it does.
        """
        if not post(self.loop, self._begin, self._context):
            raise loop_ended()
        value = _wait(self._outcome, self.loop)
        self._got = True
        return value

    @contextlib.contextmanager
    def seen(self) -> Iterator[None]:
        """Let this thread see the context variables as the coroutine left them: whose code runs here, its span."""
        left = [(variable, value) for variable, value in self._context.items() if variable.get(self) is not value]
        tokens = [(variable, variable.set(value)) for variable, value in left]
        try:
            yield
        finally:
            for variable, token in reversed(tokens):
                with contextlib.suppress(ValueError):  # left in another context: a generator that was closed elsewhere
                    variable.reset(token)

    def end(self) -> None:
        """End it, and wait until that is done if there is a result to leave; may be called again."""
        if self._got:
            do(self.loop, self._end)
        else:
            self.end_soon()

    def end_soon(self) -> None:
        """End it without waiting until that is done; may be called again."""
        try:
            post(self.loop, self._end)
        except BaseException:
            post(self.loop, self._end)  # interrupted before it was posted, or before the loop was woken
            raise

    def _begin(self) -> None:
        try:
            value = self._at_once()
        except BaseException as error:
            self._outcome.fail(error)
            if isinstance(error, Exception):
                return
            raise  # as a task does: Ctrl-C in the thread of the loop ends the loop
        if value is not None:
            self._outcome.settle(value)
            return
        self._task = self.loop.create_task(self._make(), context=self._context)
        self._task.add_done_callback(self._deliver)

    def _deliver(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._outcome.fail(loop_ended())
        elif (error := task.exception()) is not None:
            self._outcome.fail(error)
        elif self._ended:
            self._undo(task.result())
        else:
            self._outcome.settle(task.result())

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        if self._outcome.succeeded:
            (self._leave if self._got else self._undo)(self._outcome.take())


def do(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """Do something on a loop, once, and wait for it. Nothing to do if the loop has ended: its places went with it."""
    if running_loop() is loop:  # a generator that was left half-way can be closed in any thread
        action()
        return
    outcome: Outcome[None] = Outcome()

    def act() -> None:
        if outcome.settled:
            return
        try:
            action()
        except BaseException as error:  # noqa: BLE001  handed on to who waits
            outcome.fail(error)
        else:
            outcome.settle(None)

    try:
        if post(loop, act):
            _wait(outcome, loop)
    except GateClosed:
        return
    except BaseException:
        post(loop, act)  # interrupted before it was posted, or before the loop was woken
        raise


def _wait(outcome: Outcome[T], loop: asyncio.AbstractEventLoop) -> T:
    while not outcome.wait(LOOK_EVERY_S):
        if loop.is_closed() and not outcome.settled:
            raise loop_ended()
    return outcome.take()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def loop_ended() -> GateClosed:
    """What to raise where the loop that was to answer is closed."""
    return GateClosed("the event loop that the gate was on has ended: keep it running until its threads are done")
