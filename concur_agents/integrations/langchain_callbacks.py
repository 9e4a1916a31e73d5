"""`ConcurCallbackHandler`: LangChain's runs as agents and its model calls as turns, through its callbacks alone."""

from __future__ import annotations

import asyncio
import inspect
import sys
from contextvars import ContextVar
from types import MethodType
from typing import TYPE_CHECKING, Any

from concur_agents.context import stay_in, swap_outer
from concur_agents.errors import MissingExtra

from .langchain_usage import report_result

try:
    from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
except ImportError as missing:
    raise MissingExtra("LangChain is not installed: pip install 'concur-agents[langchain]'") from missing

from concur_agents.sync.handover import running_loop

from .langchain_held import HeldCall, HeldRun
from .langchain_pauses import loop_beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from concur_agents.agent import Turn
    from concur_agents.gate import ConcurGate

_NO_AGENTS = {"prompt", "parser"}
"""Types of runs that call no model (langchain-core 1.7 prompts/base.py, output_parsers/base.py)."""


_LAST_CALL: ContextVar[HeldCall | None] = ContextVar("concur_agents_last_call", default=None)
"""The model call that was begun last in this context."""


class _Start:
    """An event that may wait: LangChain's asynchronous managers await it, its synchronous ones call it.

    A coroutine handed to a synchronous manager is run on an event loop of its own, and its exceptions are swallowed
    (langchain-core 1.7 callbacks/manager.py `_run_coros`); so that one must get a plain function. Who asks is told by
    the code that asks: only a coroutine can await.
    """

    def __init__(self, awaited: Callable[..., Any], called: Callable[..., Any]) -> None:
        self._awaited = awaited
        self._called = called

    def __get__(self, handler: ConcurCallbackHandler | None, owner: type) -> Any:
        if handler is None:
            return self._awaited
        # A frame kept in a variable here would be a cycle, and would keep the run's id, which has to go with the run.
        awaits = sys._getframe(1).f_code.co_flags & inspect.CO_COROUTINE  # noqa: SLF001  inspect has only the cycle
        return MethodType(self._awaited if awaits else self._called, handler)


class ConcurCallbackHandler(BaseCallbackHandler):
    """A callback handler that makes every run an agent and every model call in it a turn.

    ```python
    await graph.ainvoke(question, {"callbacks": [ConcurCallbackHandler(gate)]})
    ```

    One handler serves any number of runs. A run is an agent from its start to its end, unless it is inside an agent
    already (of `gate.graph`, of `async with gate.agent()`, or another run's); what it calls belongs to it. A model call
    begins a turn, waiting here if the agent has to pause, and its usage is reported at its end. If the model's client
    is gated too, that one's calls are the turns.

    LangChain tells nothing of a cancelled `ainvoke` of a model. So the place of a run and the turn of a call are given
    back by the first of these: the event of its end or error; the failure or cancellation of the task that began it;
    the last reference to its id, which LangChain's record of it holds (and a traceback that somebody keeps); for a
    call, the next one of its task.

    The runs of `(prompt | model).abatch(…)` go through their steps together and cannot wait for one another, so each
    of their model calls is an agent of one turn; batches of graphs are agents. Several prompts in one call of
    `agenerate` are a turn each, of which all but the last end at once: none of them is made before all have begun.
    Synchronous runs are gated in threads; on the thread of an event loop their model calls raise `WrongLoop`.

    Before LangGraph 1.2.4, `astream_events` forgets the callbacks of a graph's `with_config`, and so this handler: hand
    it to `astream_events` itself.

    Args:
        gate: Who admits the runs.
        kind: Agents of one kind share what the gate learns of them.
    """

    raise_error = True
    """A closed gate has to end the run: LangChain swallows what other handlers raise."""

    run_inline = True
    """In the caller's context, where what is inside the run finds its agent; else it would be a task's of its own."""

    def __init__(self, gate: ConcurGate, *, kind: str | None = None) -> None:
        self._gate = gate
        self._kind = kind
        self._runs: dict[int, HeldRun] = {}
        self._calls: dict[int, HeldCall] = {}

    # ------------------------------------------------------------------ runs

    async def _run_started(
        self, _serialized: Any, _inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        run = self._belonging(parent_run_id)
        if self._gate.current() is None and about.get("run_type") not in _NO_AGENTS and not _in_lock_step():
            agent = await self._gate.agent(about.get("name"), kind=self._kind).__aenter__()
            run = HeldRun(agent, run_id, self._runs, asyncio.get_running_loop(), asyncio.current_task())
        self._note(run, run_id)

    def _run_started_in_thread(
        self, _serialized: Any, _inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        run = self._belonging(parent_run_id)
        if self._gate.current() is None and about.get("run_type") not in _NO_AGENTS and running_loop() is None:
            run = self._begin_run_in_thread(run_id, about.get("name"))
        self._note(run, run_id)

    on_chain_start = _Start(_run_started, _run_started_in_thread)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002  LangChain's names
        """A run is over: if it is an agent, the place is given back."""
        run = self._runs.pop(run_id.int, None)
        if run is not None:
            run.member_ended(run_id.int)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A run has failed, was cancelled, or its stream is not read any more."""
        self.on_chain_end(error, run_id=run_id, **kwargs)

    def _belonging(self, run_id: UUID | None) -> HeldRun | None:
        """The run that this one is part of, made the current agent where its context has been lost on the way."""
        run = self._runs.get(run_id.int) if run_id is not None else None
        if run is not None and not run.agent.finished and self._gate.current() is None:
            stay_in(run.agent)
        return run

    def _note(self, run: HeldRun | None, run_id: UUID) -> None:
        if run is not None:
            run.members.add(run_id.int)
            self._runs[run_id.int] = run

    def _begin_run_in_thread(self, run_id: UUID, name: str | None) -> HeldRun | None:
        loop = loop_beside(self._gate)
        scope = self._gate.sync.agent(name, kind=self._kind)
        scope.__enter__()
        agent = self._gate.current()
        return HeldRun(agent, run_id, self._runs, loop, None, scope=scope) if agent is not None else None

    # ------------------------------------------------------------------ model calls

    async def _call_started(
        self,
        _serialized: Any,
        _prompts: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **_: Any,
    ) -> None:
        task = asyncio.current_task()
        last = _LAST_CALL.get()
        if last is not None and last.task is task:
            last.end()  # a task waits for one call at a time: this one was cancelled, and LangChain told nothing of it
        self._belonging(parent_run_id)
        try:
            turn = await self._gate.begin_turn()
        except asyncio.CancelledError as error:
            if task is None or not task.cancelling():
                raise
            # LangChain has made the coroutines of the handlers after this one already (callbacks/manager.py), and
            # would leave them unawaited: the cancellation goes on where the task waits next.
            task.uncancel()
            task.cancel(*error.args)
            return
        self._follow(turn, run_id, asyncio.get_running_loop(), task)

    def _call_started_in_thread(self, _serialized: Any, _prompts: Any, *, run_id: UUID, **_: Any) -> None:
        loop_beside(self._gate)
        begun = self._gate.sync.begin_turn()
        self._follow(begun.turn, run_id, begun.loop, None)  # it is ended from any thread

    def _follow(
        self,
        turn: Turn,
        run_id: UUID,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Any] | None,
    ) -> None:
        call = self._calls[run_id.int] = HeldCall(turn, run_id, self._calls, loop, task)
        _LAST_CALL.set(call)
        stay_in(turn.agent)
        swap_outer(turn)

    on_chat_model_start = _Start(_call_started, _call_started_in_thread)
    on_llm_start = _Start(_call_started, _call_started_in_thread)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002  LangChain's names
        """The answer is there."""
        call = self._calls.get(run_id.int)
        if call is not None:
            report_result(call.turn, response)
            call.end()

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002  as above
        """The call has failed, was cancelled, or its stream is not read any more."""
        call = self._calls.get(run_id.int)
        if call is not None:
            call.end()


def _in_lock_step() -> bool:
    """Whether this run's start is a task by itself: one of many that all have to start before the first can go on."""
    task = asyncio.current_task()
    code = getattr(task.get_coro(), "cr_code", None) if task is not None else None
    return code is AsyncCallbackManager.on_chain_start.__code__
