"""Who ran on which LangGraph thread: what a resumed run takes over from the run that was interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from concur_agents.agent import Agent
    from concur_agents.gate import ConcurGate

REMEMBERED = 10_000
"""Threads kept a gate, the latest ones: some 5 MB, and more than one process interrupts and resumes in a while."""


class Thread(NamedTuple):
    """What makes two runs the same agent: its kind, and where its checkpoints are."""

    kind: str
    thread_id: str
    checkpoint_ns: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of an agent; nothing of its state or of what was said.

    Attributes:
        name: What it was called.
        session_id: What its requests carried as `X-Session-ID`, so that a router finds its server again.
        turns: Turns it has ended.
        footprint: KV tokens of its contexts at its end; None if it never told of any. [KV tokens]
    """

    name: str
    session_id: str
    turns: int
    footprint: float | None


class Threads:
    """The threads that ran last, at most `limit`."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._known: dict[Thread, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, thread: Thread) -> Known | None:
        """Who ran on this thread last."""
        return self._known.get(thread)

    def remember(self, thread: Thread, agent: Agent) -> None:
        """Note an agent whose run on this thread is about to end, and forget who ran longest ago if there are many."""
        before = self._known.pop(thread, None)
        told = agent.prompt_tokens > 0
        footprint = agent.footprint if told else before.footprint if before is not None else None
        self._known[thread] = Known(agent.name, agent.session_id, agent.turns, footprint)
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]


_THREADS: WeakKeyDictionary[ConcurGate, Threads] = WeakKeyDictionary()


def threads_of(gate: ConcurGate) -> Threads:
    """The threads of a gate: of all its graphs, so that one wrapped anew for each request knows them, too."""
    return _THREADS.setdefault(gate, Threads())
