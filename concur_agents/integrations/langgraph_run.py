"""One run of a gated LangGraph graph as an agent: who it is, what it takes over, and how it is stepped and left."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from langgraph import errors, runtime

from .langgraph_threads import Known, Thread, threads_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Mapping

    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel

    from concur_agents.agent import Agent
    from concur_agents.errors import GateClosed
    from concur_agents.gate import ConcurGate

T = TypeVar("T")
Graph: TypeAlias = "Pregel[Any, Any, Any, Any]"


@dataclass(frozen=True)
class Agents:
    """What the runs of a gated graph are at the gate.

    Attributes:
        gate: Who admits them.
        kind: Their kind.
        drain: Whether they drain when the gate closes while they are paused.
    """

    gate: ConcurGate
    kind: str
    drain: bool

    def run(
        self, graph: Graph, config: RunnableConfig | None, items: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """The items of a run, as an agent."""
        return _in_own_context(_Run(self, graph, config).awaited(items))

    def blocking_run(self, graph: Graph, config: RunnableConfig | None, items: Iterator[T]) -> Generator[T, None, None]:
        """The items of a synchronous run, as an agent."""
        return _in_own_context_of_a_thread(_Run(self, graph, config).blocking(items))


class _Run:
    def __init__(self, agents: Agents, graph: Graph, config: RunnableConfig | None) -> None:
        self._agents = agents
        self._gate = agents.gate
        self._graph = graph
        self._configs: list[Mapping[str, Any]] = [given for given in (config, graph.config) if given]

    async def awaited(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        thread, known = self._before()
        async with self._gate.agent(**self._asked(known)) as agent:
            self._enter(agent, known)
            try:
                async with aclosing(items):
                    async for item in items:
                        yield item
            finally:
                self._leave(agent, thread)

    def blocking(self, items: Iterator[T]) -> Generator[T, None, None]:
        thread, known = self._before()
        with self._gate.sync.agent(**self._asked(known)):
            agent = self._gate.current()
            assert agent is not None  # noqa: S101  it was just entered
            self._enter(agent, known)
            try:
                yield from items
            finally:
                self._leave(agent, thread)

    # ------------------------------------------------------------------ who it is

    def _before(self) -> tuple[Thread | None, Known | None]:
        """Where this run goes on from, and who ran there."""
        if self._gate.current() is not None:
            return None, None  # part of that agent
        thread_id, namespace = self._configured("thread_id"), self._configured("checkpoint_ns")
        if thread_id is None or not (self._graph.checkpointer or namespace):
            return None, None  # no checkpoints, so no later run goes on from this one
        thread = Thread(self._agents.kind, str(thread_id), str(namespace or ""))
        return thread, threads_of(self._gate).recall(thread)

    def _asked(self, known: Known | None) -> dict[str, Any]:
        names = (
            *(given.get("run_name") for given in self._configs),
            known.name if known is not None else None,
            self._configured("thread_id"),
        )
        name = next((str(name) for name in names if name is not None), self._graph.get_name())
        footprint = known.footprint if known is not None else None
        return {"name": name, "kind": self._agents.kind, "expected_tokens": footprint}

    def _configured(self, key: str) -> Any:
        values = [(given.get("configurable") or {}).get(key) for given in self._configs]
        return next((value for value in values if value is not None), None)

    def _enter(self, agent: Agent, known: Known | None) -> None:
        if known is not None:
            # Its next turn is not its first: that would tell its kind a wrong first prompt.
            agent.session_id, agent.turns = known.session_id, known.turns
        if self._agents.drain:
            agent.when_closed = _drained

    def _leave(self, agent: Agent, thread: Thread | None) -> None:
        if thread is not None:
            threads_of(self._gate).remember(thread, agent)


def _drained(closed: GateClosed) -> Exception:
    """LangGraph's way to stop: not retried, not handled as an error, and parallel branches end their step."""
    reason = f"{closed}; `ainvoke(None, config)` goes on from its checkpoint"
    with contextlib.suppress(RuntimeError):  # a turn outside of any node
        control = getattr(runtime.get_runtime(), "control", None)
        if control is not None:
            control.request_drain(reason)  # subgraphs beside this one stop at their next step
    return errors.GraphDrained(reason)


# ---------------------------------------------------------------------- stepping
# A generator runs in the context of whoever asks for the next item. So an agent entered in one would be the current
# agent of its reader, too, and could not be left when another task closes the generator.


_UNDER_WAY: set[AsyncGenerator[Any, None]] = set()
"""The generators of runs. A reader that leaves may be garbage in a cycle; were they part of it, asyncio would close
them at the same time as the reader's, and they would stumble over one another."""


async def _in_own_context(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items, each made in one context that is nobody else's.

    The generator's own awaitables are the tasks' coroutines, with nothing around them: a task cancelled
    before its first step then raises in the generator, which gives the place back, and not merely around it.
    """
    loop = asyncio.get_running_loop()
    context = copy_context()
    _UNDER_WAY.add(items)
    try:
        while True:
            try:
                item = await loop.create_task(items.__anext__(), context=context)
            except StopAsyncIteration:
                return
            yield item
    finally:
        try:
            await loop.create_task(items.aclose(), context=context)
        finally:
            _UNDER_WAY.discard(items)


def _in_own_context_of_a_thread(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, each made in one context that is nobody else's."""
    context = copy_context()
    try:
        while True:
            try:
                item = context.run(next, items)
            except StopIteration:
                return
            yield item
    finally:
        context.run(items.close)
