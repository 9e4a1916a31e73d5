"""What LangChain's runs hold at the gate, and who tells that they are over."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from concur_agents.sync.handover import running_loop

from .langchain_pauses import at_once, end_with_its_agent, in_loop

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractContextManager
    from uuid import UUID

    from concur_agents.agent import Agent, Turn


class _Held:
    """What is held at the gate until the first that tells of its end.

    Attributes:
        task: The task that began it; None: a thread did.
    """

    def __init__(self, run_id: UUID, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        self._loop = loop
        self.task = task
        self._ended = False
        # LangChain's record of a run has its id to the end; here only the number of it is kept.
        self._gone = weakref.finalize(run_id, in_loop, loop, self._end)
        self._gone.atexit = False
        if task is not None:
            task.add_done_callback(self._on_task_done)

    def end(self) -> None:
        """Give back what is held; from any thread, and any number of times."""
        if running_loop() is self._loop:
            self._end()
        else:
            at_once(self._loop, self._end)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._gone.detach()
        if self.task is not None:
            self.task.remove_done_callback(self._on_task_done)
        self._give_back()

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        # A task that ends well may have made one step of a stream, and others make the next ones. Not exception():
        # asyncio would then think that somebody has looked at it, and not log it.
        if task.cancelled() or getattr(task, "_exception", None) is not None:
            self._end()

    def _give_back(self) -> None:
        raise NotImplementedError


class HeldRun(_Held):
    """A run that is an agent.

    Attributes:
        agent: It.
        members: Numbers of the runs that belong to it, itself included.
    """

    def __init__(
        self,
        agent: Agent,
        run_id: UUID,
        runs: dict[int, HeldRun],
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Any] | None,
        *,
        scope: AbstractContextManager[object] | None = None,
    ) -> None:
        super().__init__(run_id, loop, task)
        self.agent = agent
        self.members: set[int] = set()
        self._scope = scope
        self._number = run_id.int
        self._runs = runs

    def member_ended(self, number: int) -> None:
        """A run inside this one is over, or this one itself."""
        self.members.discard(number)
        if number == self._number:
            self.end()
            if self._scope is not None:
                self._scope.__exit__(None, None, None)

    def _give_back(self) -> None:
        for number in tuple(self.members):
            self._runs.pop(number, None)
        self.agent.finish()


class HeldCall(_Held):
    """A model call that is a turn.

    Attributes:
        turn: It.
    """

    def __init__(
        self,
        turn: Turn,
        run_id: UUID,
        calls: dict[int, HeldCall],
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Any] | None,
    ) -> None:
        super().__init__(run_id, loop, task)
        self.turn = turn
        self._number = run_id.int
        self._calls = calls

    def _give_back(self) -> None:
        self._calls.pop(self._number, None)
        end_with_its_agent(self.turn)
