"""An event loop whose clock jumps: what would take an hour of waiting takes no time, in the same order.

Programs run on it unchanged, as long as they wait by the loop's own clock. Whenever nothing is ready, the clock moves
to the next timer instead of waiting for it; the same program does the same things at the same times, to the last
digit. Threads of the loop's executor (`asyncio.to_thread`, LangGraph's synchronous nodes) take no virtual time: the
clock stands until they are done. Nobody waits for sockets: timers go before them.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from concur_agents.errors import Deadlock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LISTED = 8
"""Waiting tasks that a deadlock names."""
THREAD_GRACE_S = 1.0
"""How long a deadlock is not yet one if there are other threads: one of them may be about to call the loop. [s]"""
LONGEST_S = 2.0**24
"""Half a year: asyncio runs what is due before time + 1 ns, and from here on that is no later than time itself. [s]"""
_SMALLEST_JUMP_S = 1e-9
"""Rounding may leave a timer due and yet not reached: the clock has to move all the same. [s]"""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, moves the clock to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready now; if nothing is, the clock jumps by `timeout`."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.threads:
            return super().select(None)  # they call the loop when they are done
        if timeout is None:
            return self._wait_for_the_world()
        self.now += max(timeout, _SMALLEST_JUMP_S)
        if self.now >= LONGEST_S:
            raise ValueError(f"virtual time has passed {LONGEST_S / 86400:.0f} days: shorten what is waited for")
        return ready

    def _wait_for_the_world(self) -> Any:
        """Nothing is scheduled: only a socket or a thread can go on."""
        if len(self.get_map()) > 1:  # beside the loop's own
            return super().select(None)
        ready = super().select(THREAD_GRACE_S) if threading.active_count() > 1 else []
        if not ready:
            raise Deadlock(_describe())
        return ready


def _describe() -> str:
    tasks = [task for task in asyncio.all_tasks(asyncio.get_running_loop()) if not task.done()]
    lines = sorted(f"  {task.get_name()} {_where(task)}" for task in tasks)
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    head = f"nothing is scheduled and nothing will happen: {len(tasks)} tasks wait for one another"
    return "\n".join([head, *lines[:LISTED], *more])


def _where(task: asyncio.Task[Any]) -> str:
    """The innermost line that a task waits in."""
    where = "has not begun"
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            where = f"in {frame.f_code.co_qualname} (line {frame.f_lineno})"
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return where


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and jumps.

    Raises:
        Deadlock: From whatever runs the loop, when no task can ever go on; it names the tasks.
        ValueError: From whatever runs the loop, when its clock passes `LONGEST_S`.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run a function in a thread; the clock stands meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """Wait for the executor's threads, in real time: Python 3.12 and newer set a timer to give them up."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._jumping.threads -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time.

    Args:
        main: What to run.

    Returns:
        What it returns.

    Raises:
        Deadlock: If its tasks all wait for one another.
        ValueError: If it takes longer than `LONGEST_S`.
        RuntimeError: If it is called from a running event loop.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  as `asyncio.run` does, before there is a loop to close
        main.close()
        raise RuntimeError("virtual time cannot run inside a running event loop: await it there, or use a thread")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
