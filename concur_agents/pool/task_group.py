"""`TaskGroup`: `asyncio.TaskGroup`, each task an agent."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from .start import check, start

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context

    from concur_agents.agent import Nested
    from concur_agents.gate import ConcurGate

T = TypeVar("T")


class TaskGroup(asyncio.TaskGroup):
    """`asyncio.TaskGroup` whose every task is an agent of a gate; it starts when it is admitted."""

    def __init__(self, gate: ConcurGate) -> None:
        super().__init__()
        self._gate = gate

    def create_task(  # type: ignore[override]  # narrower on purpose: what is no coroutine cannot be held back
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        kind: str | None = None,
        nested: Nested = "inherit",
    ) -> asyncio.Task[T]:
        """Let a coroutine run as an agent, in a task of this group.

        Args:
            coro: A coroutine that was not started yet.
            name: Of the task and of the agent.
            context: What it runs in, as in asyncio. The current agent is found through it, so two tasks that share
                one take each other's turns for their own.
            kind: Agents of one kind share what is learned.
            nested: Inside another agent: `inherit` shares that one's place, `new` takes one of its own.

        Raises:
            TypeError: For what is no coroutine, or is running already.
            RuntimeError: If the group is not entered, is over, or is shutting down. The coroutine is closed.
        """
        check(coro, "create_task")
        if not inspect.iscoroutine(coro):
            raise TypeError(f"create_task takes a coroutine, not {type(coro).__name__}")
        create = super().create_task
        return start(
            self._gate,
            coro,
            lambda run: create(run, name=name, context=context),
            name=name,
            kind=kind,
            nested=nested,
        )
