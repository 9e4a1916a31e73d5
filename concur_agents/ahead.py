"""Turns that begin in a thread before the event loop knows, by a head start.

That one has begun is seen by its head start, so the loop need not be woken to be told: unless somebody listens, it
accounts for the beginning together with the end, for which it is woken anyway. To wake it costs more than all the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .agent import Turn
from .context import outer_turn

if TYPE_CHECKING:
    from .agent import Agent
    from .head_start import HeadStart


class AheadTurn:
    """A turn that begins in a thread by a head start.

    Args:
        agent: Whose turn it is.
        start: The head start.
    """

    __slots__ = ("_asked", "_counted", "_start", "_told", "turn")

    def __init__(self, agent: Agent, start: HeadStart) -> None:
        self.turn = Turn(agent)
        self._start = start
        self._asked = agent.desk.now()
        self._counted = False
        self._told = False

    def claim(self) -> bool:
        """Begin it, if nothing has come before. In its thread; `tell` has to come before its end, or `undo`."""
        return self._start.claim(self)

    @property
    def awaited(self) -> bool:
        """Whether anybody wants to hear of it as soon as it has begun."""
        return bool(self.turn.agent.desk.listeners)

    def count(self) -> None:
        """Let it count at admission from now on; may be called again. On the loop only."""
        if not self._counted:
            self._counted = True
            agent = self.turn.agent
            agent._admission.count_turn(agent.place)  # noqa: SLF001  two halves of one thing

    def tell(self) -> None:
        """Account for it; may be called again. On the loop only."""
        if self._told:
            return
        self._told = True
        agent = self.turn.agent
        if agent.place.head_start is self._start:
            agent.place.head_start = None
        self.count()
        agent._begun(self.turn, self._asked, 0.0)  # noqa: SLF001  as above

    def undo(self) -> None:
        """Let it not have begun, whether it has or not: its thread was interrupted. On the loop only."""
        if self._start.withdraw() is self:
            self.tell()
            self.turn.dissolve()


def begin_ahead(agent: Agent) -> AheadTurn | None:
    """In a thread: a turn that may begin at once if `claim` succeeds; None if it has to ask the loop.

    So it has to if the agent has no head start, or is over, if its place is disputed, inside a turn on its place, if
    turns are held, and if anybody has to pause.
    """
    start, place, outer = agent.head_start, agent.place, outer_turn()
    if start is None or agent.finished or not place.undisputed or (outer is not None and outer.agent.place is place):
        return None
    if agent.desk.holding.held or not agent._admission.at_ease():  # noqa: SLF001  as above
        return None
    return AheadTurn(agent, start)


def end_with_head_start(turn: Turn, start: HeadStart) -> None:
    """End a turn of a thread, and let the next one begin there by this head start if nothing is against it."""
    agent = turn.agent
    withheld = turn.ended or agent.desk.holding.held or agent.desk.pacer is not None
    agent._admission.offer_head_start(agent.place, start, withheld=withheld)  # noqa: SLF001  as above
    turn.end()
