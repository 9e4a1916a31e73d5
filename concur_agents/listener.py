"""What happens at a gate, told as it happens: to metrics, traces, recordings, and whoever else listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .agent import Agent, Turn
    from .stats import Decision

log = logging.getLogger("concur_agents")


class Listener:
    """Hears what happens at a gate: subclass it, override what you want to hear, and `gate.add_listener(…)` it.

    It is called on the gate's event loop, between two events of it, so it has to be quick and must not wait. What it
    raises is logged once and costs nobody a place.
    """

    def agent_admitted(self, agent: Agent, waited_s: float) -> None:
        """An agent got its first place, or joined its parent's; called in the context that the agent will run in.

        Args:
            agent: The agent; its `parent` is the one whose place it shares.
            waited_s: How long it was queued. [s]
        """

    def agent_gave_up(self, name: str, kind: str, waited_s: float) -> None:
        """An agent left the queue without a place: its timeout, a cancellation, a closed gate, a missing server.

        Args:
            name: The agent's name.
            kind: Its kind.
            waited_s: How long it was queued. [s]
        """

    def turn_began(self, turn: Turn, waited_s: float) -> None:
        """A turn begins.

        Args:
            turn: The turn.
            waited_s: How long its agent was paused, held or paced before it. [s]
        """

    def turn_ended(self, turn: Turn) -> None:
        """A turn is over; `turn.usage` has its tokens, `turn.dissolved` tells that it was only a place to pause."""

    def agent_finished(self, agent: Agent) -> None:
        """An agent is over and has given its place back."""

    def decided(self, decision: Decision) -> None:
        """The budget changed."""

    def closed(self) -> None:
        """The gate was closed. Agents that are still active go on, and are told of as before."""


class Listeners:
    """All who listen at one gate."""

    def __init__(self) -> None:
        self._all: list[Listener] = []
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, listener: Listener) -> None:
        """Let one more listen."""
        self._all.append(listener)

    def remove(self, listener: Listener) -> None:
        """Let one listen no longer; may be called again."""
        self._all = [other for other in self._all if other is not listener]
        self._failed.discard(id(listener))

    def tell(self, what: Callable[[Listener], None]) -> None:
        """Tell all; one that fails keeps nobody from hearing it."""
        for listener in self._all:
            try:
                what(listener)
            except Exception:  # a listener's fault must not cost an agent its place
                if id(listener) not in self._failed:
                    self._failed.add(id(listener))
                    log.exception("%s failed; its further failures are not logged", type(listener).__name__)
