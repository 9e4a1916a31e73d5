"""The two lines between the active places and those that wait: who may enter, and who has to pause.

- *admission line*: the head of the queue enters while Σ (footprint + admit_turns · growth) ≤ tokens, what is to be
  expected within the next `ahead_turns` (`Outlook`) is no larger, and fewer than `agents` are active;
- *pause line*: who begins a turn gives its place up while Σ (footprint + pause_turns · growth) > tokens or more than
  `agents` are active, the smallest context first, the newest among those alike (within a power of two).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .active import size_key
from .place import GROWTH_PRIOR, State

if TYPE_CHECKING:
    from .active import ActivePlaces
    from .control.base import Budget
    from .place import Place, WaitingQueue

FIRST_BATCH = 8
"""Agents of an unknown kind that enter together at first. Few beside what any cache holds, and enough that a small
batch is not held up: with one, agents that never fill the cache lost up to 4 % in simulation, with eight 1 to 2 %."""

BATCH_GROWTH = 3
"""Agents that enter on a guess for each first turn that has ended: what that told makes the guess a better one."""

LEAST_GROWTH = 500.0
"""Growth that an unknown kind is trusted to have at least, before all are let in at once. Recorded coding agents grow
by 560, 410 and 390 at the median and by 1170, 850 and 830 in the mean, customer-service agents by 170. Without it a
batch of agents that begin with a line came in whole, and lost half of what it had in the cache. [tokens a turn]"""


class Lines:
    """The rules, over what is active and who waits. They change nothing.

    Args:
        active: The active places.
        queue: Who waits for a place.
        passing_limit_s: How long smaller agents may pass a big head. [s]

    Attributes:
        budget: What may be active; None: not decided yet, so nobody enters.
        closed: Whether the gate is: nobody enters any more, and nobody pauses.
    """

    def __init__(self, active: ActivePlaces, queue: WaitingQueue, *, passing_limit_s: float) -> None:
        self.budget: Budget | None = None
        self.closed = False
        self._active = active
        self._queue = queue
        self._passing_limit_s = passing_limit_s

    def fits(self, place: Place) -> bool:
        """Whether a place that waits may enter: the admission line, and the promise that one is always active."""
        budget = self.budget
        if budget is None or self.closed:
            return False
        if self._active.count == 0:
            return True
        if budget.agents is not None and self._active.count >= budget.agents:
            return False
        if budget.tokens is None:
            return True
        place.size_up()
        return not self.too_cold(place) and self._needs(budget, place) <= budget.tokens

    def too_cold(self, place: Place) -> bool:
        """Whether so many of its kind are in their first turn that one more would be a rush on a guess."""
        kind = place.kind
        if place.sized or kind.cold < FIRST_BATCH + BATCH_GROWTH * kind.first_turns:
            return False
        return not self._all_fit(place)

    def passing(self, head: Place, now: float) -> Place | None:
        """Who may enter before the head, which is too big at the moment."""
        budget = self.budget
        if budget is None or budget.tokens is None or self.closed:
            return None
        if budget.agents is not None and self._active.count >= budget.agents:
            return None
        passed_s = now - head.passed_since if head.passed_since is not None else 0.0
        if passed_s >= self._passing_limit_s and not self.too_cold(head):
            return None
        room = budget.tokens - self._active.working_set - budget.admit_turns * self._active.outlook.growth
        return next((place for place in self._queue.smaller(head, room) if self.fits(place)), None)

    def must_pause(self, place: Place) -> bool:
        """Whether an active place has to be given up before its next turn, or that turn held beside others."""
        budget, active = self.budget, self._active
        if budget is None or self.closed or active.count <= 1:
            return False
        head = self._queue.head()
        if head is not None and head.overdue and place.priority <= head.priority and not self.fits(head):
            return True
        too_many = active.count - budget.agents if budget.agents is not None else 0
        too_much = 0.0
        if budget.tokens is not None:
            too_much = active.working_set + budget.pause_turns * active.outlook.growth - budget.tokens
        if too_many <= 0 and too_much <= 0:
            return False
        before = active.by_size.before(size_key(place))
        if before.count >= active.count - 1 or (place.running and place is active.by_size.last()):
            # The largest of all goes on, or every agent could be made to wait for another one.
            return False
        return before.count < too_many or before.tokens + budget.pause_turns * before.growth < too_much

    def at_ease(self) -> bool:
        """Whether nobody is over the pause line. In any thread, where it may be of a moment ago."""
        budget, active = self.budget, self._active
        if budget is None or (budget.agents is not None and active.count > budget.agents):
            return False
        return budget.tokens is None or active.working_set + budget.pause_turns * active.outlook.growth <= budget.tokens

    def why(self, place: Place, head: Place | None) -> str:
        """What a place waits for, in words.

        Args:
            place: The place.
            head: Of the queue.
        """
        budget = self.budget
        why = "a place"
        if budget is None:
            why = "the first look at the server's metrics"
        elif place.state is State.ACTIVE:
            why = "room for one more turn beside its turns in flight"
        elif place is not head and head is not None:
            why = f"its turn in the queue, behind {head.name!r}"
        elif budget.agents is not None and self._active.count >= budget.agents:
            why = f"a place: {self._active.count} active of {budget.agents}"
        elif budget.tokens is not None and self.too_cold(place):
            why = f"the first turns of kind {place.kind.name!r}, which tell its size"
        elif budget.tokens is not None:
            missing = self._needs(budget, place) - budget.tokens
            grown = ", as all will have grown" if budget.admit_turns or budget.ahead_turns else ""
            why = f"{missing:,.0f} more tokens of room in {budget.tokens:,.0f}{grown}"
        return why

    def _needs(self, budget: Budget, place: Place) -> float:
        return self._active.prefixes_with(place) + self._active.outlook.beside(place).highest(budget)

    def _all_fit(self, place: Place) -> bool:
        """Whether there is room for all who wait, were they like this one: then a guess can do no harm."""
        budget = self.budget
        if budget is None or budget.tokens is None or not place.kind.expected_tokens:
            return False
        place.size_up()
        # A first prompt may be a line, or mostly a prefix that all share: what is theirs alone tells little of growth.
        growth = place.growth if place.kind.growth.count else max(LEAST_GROWTH, GROWTH_PRIOR * place.footprint)
        waiting = max(1, len(self._queue))
        reserve = max(budget.admit_turns, budget.ahead_turns) * (self._active.outlook.growth + waiting * growth)
        return self._active.working_set + waiting * place.private + reserve <= budget.tokens
