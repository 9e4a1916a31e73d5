"""The rules of admission a second time, naively: plain lists, counted anew at every question.

`Watched` is the real admission that holds each of its own decisions against these rules, and whose `check` counts
everything over from the places themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from concur_agents import lines
from concur_agents.admission import Admission
from concur_agents.life_table import AHEAD_TURNS
from concur_agents.place import GROWTH_PRIOR, Place, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from concur_agents.active import ActivePlaces
    from concur_agents.control.base import Budget
    from concur_agents.kind import Kind, Totals
    from concur_agents.lines import Lines

ROUNDING = 1e-6
"""Tokens by which running sums may differ from a sum made anew."""


class Watched(Admission):
    """An admission under suspicion. Attributes: places: all that ever asked for admission."""

    def __init__(
        self, clock: Callable[[], float], totals: Totals, *, passing_limit_s: float, longest_pause_s: float = math.inf
    ) -> None:
        super().__init__(clock, totals, passing_limit_s=passing_limit_s, longest_pause_s=longest_pause_s)
        self.places: list[Place] = []
        self._may_pass_s = passing_limit_s
        self._watch(self._lines, self._active)
        self._first_passed: dict[Place, float] = {}
        self._handing_back = False
        self._most = 0
        self._idle_since: dict[Place, float] = {}

    async def acquire(self, place: Place) -> None:
        self.places.append(place)
        await super().acquire(place)

    def resize(self, budget: Budget) -> None:
        self._most = self.active
        super().resize(budget)

    # ------------------------------------------------------------------ every decision, as it is made

    def _activate(self, place: Place) -> None:
        if not (self._handing_back and self._lines.closed):
            assert self.fits(place), f"{place} was let in without room: {self}"
        if not self._handing_back:
            self._check_turn_of(place)
        self._first_passed.pop(place, None)
        self._idle_since.pop(place, None)
        super()._activate(place)

    def _return_to_lender(self, lender: Place, *, handed_back: bool) -> None:
        self._handing_back = True
        super()._return_to_lender(lender, handed_back=handed_back)
        self._handing_back = False

    def _watch(self, lines: Lines, active: ActivePlaces) -> None:
        """Hold each of their decisions, and their books, against these."""
        must_pause, note_idle = lines.must_pause, active.note_idle

        def watched_pause(place: Place) -> bool:
            return self._checked_pause(place, must_pause(place))

        def watched_idle(place: Place) -> None:
            note_idle(place)
            self._note_idle(place)

        lines.must_pause = watched_pause  # type: ignore[method-assign]
        active.note_idle = watched_idle  # type: ignore[method-assign]

    def _checked_pause(self, place: Place, must: bool) -> bool:
        if not self._at_a_rounding():
            assert must == (place in self.victims() or self.makes_room(place)), (
                f"{place} {'' if must else 'not '}paused: {self}"
            )
        return must

    def _take_lapsed(self, head: Place) -> bool:
        """A place is taken only past its lease, only between turns, only for a head that does not fit otherwise."""
        assert not self.fits(head, slack=-ROUNDING)
        before = self.those(State.ACTIVE)
        took = super()._take_lapsed(head)
        taken = [place for place in before if place.state is not State.ACTIVE]
        assert took == bool(taken)
        for place in taken:
            assert place.state is State.LAPSED
            assert place.turned
            assert not place.running
            assert self._idle_since[place] + self.budget.tool_lease_s <= self._clock()
        return took

    def _note_idle(self, place: Place) -> None:
        if place.state is State.ACTIVE and place.turned and not place.running:
            self._idle_since.setdefault(place, self._clock())
        else:
            self._idle_since.pop(place, None)

    def _check_turn_of(self, place: Place) -> None:
        head = self.queue()[0]
        if place is head:
            return
        assert self.budget is not None
        assert self.budget.tokens is not None, f"{place} passed {head} though only agents are counted"
        assert not self.fits(head, slack=-ROUNDING), f"{place} passed {head}, which fits: {self}"
        if not self.too_cold(head):
            first = self._first_passed.setdefault(head, self._clock())
            assert self._clock() - first < self._may_pass_s or first == self._clock(), f"{head} is passed for ever"

    # ------------------------------------------------------------------ the rules

    def __repr__(self) -> str:
        return f"{self.budget}, {self.active} active, {self.working_set} tokens, places {self.living()}"

    def living(self) -> list[Place]:
        return [place for place in self.places if place.seq and place.state is not State.FINISHED]

    def those(self, state: State) -> list[Place]:
        return [place for place in self.living() if place.state is state]

    def queue(self) -> list[Place]:
        waiting = [place for place in self.living() if place.state in {State.QUEUED, State.PAUSED}]

        def order(place: Place) -> int:
            if place.state is State.QUEUED:
                return place.seq
            return place.pause_seq if place.overdue else -place.pause_seq

        return sorted(
            waiting, key=lambda place: (-place.priority, not place.overdue, place.state is State.QUEUED, order(place))
        )

    def fits(self, place: Place, *, slack: float = ROUNDING) -> bool:
        """Whether the admission line, or the promise that one is always active, lets this place in now."""
        budget, active = self.budget, self.those(State.ACTIVE)
        if budget is None or self._lines.closed:
            return False
        if not active:
            return True
        if budget.agents is not None and len(active) + 1 > budget.agents:
            return False
        if budget.tokens is None:
            return True
        kind = place.kind
        footprint = place.footprint if place.sized else kind.expected_tokens
        private = footprint - min(footprint, kind.shared_prefix)
        tokens = private + sum(other.private for other in active) + prefixes([*active, place])
        growth = (kind.growth.value if kind.growth.count else GROWTH_PRIOR * private) + sum(p.growth for p in active)
        room = budget.tokens + slack
        soon = tokens + budget.admit_turns * growth <= room
        return soon and not self.too_cold(place) and self.fits_later(place, room)

    def fits_later(self, place: Place, room: float) -> bool:
        """Whether it would still fit beside the active ones some turns on, as was expected of each at its last step."""
        active = self.those(State.ACTIVE)
        place.size_up()
        place.look_ahead()
        both = [*active, place]
        later = [prefixes(both) + sum(tokens) for tokens in zip(*(p.ahead for p in both), strict=True)]
        return all(
            tokens <= room for turns, tokens in zip(AHEAD_TURNS, later, strict=True) if turns <= self.budget.ahead_turns
        )

    def too_cold(self, place: Place) -> bool:
        """Whether this many of its kind are in their first turn that one more would be a rush on a guess."""
        kind = place.kind
        cold = [other for other in self.those(State.ACTIVE) if other.kind is kind and not other.warm]
        if place.sized or len(cold) < lines.FIRST_BATCH + lines.BATCH_GROWTH * kind.first_turns:
            return False
        budget, size = self.budget, kind.expected_tokens
        if budget is None or budget.tokens is None or not size:
            return True
        waiting = max(1, len(self.queue()))
        growth = kind.growth.value if kind.growth.count else max(lines.LEAST_GROWTH, GROWTH_PRIOR * size)
        tokens = self.working_set + waiting * (size - min(size, kind.shared_prefix))
        growing = sum(other.growth for other in self.those(State.ACTIVE)) + waiting * growth
        return tokens + max(budget.admit_turns, budget.ahead_turns) * growing > budget.tokens

    def makes_room(self, place: Place) -> bool:
        """Whether it begins a turn while one that has been paused for too long does not fit."""
        head = next(iter(self.queue()), None)
        limited = self.budget is not None and not self._lines.closed and self.active > 1
        return bool(limited and head and head.overdue and place.priority <= head.priority and not self.fits(head))

    def victims(self) -> set[Place]:
        """Who is paused if it begins a turn: the smallest, of those alike the newest, until the rest fits."""
        budget, left = self.budget, self.those(State.ACTIVE)
        by_size = by_context(place for place in left if place.turned)
        victims: set[Place] = set()
        if budget is None or self._lines.closed:
            return victims
        billed = prefixes(left)
        for place in by_size:
            last = len(left) == 1 or (place is by_size[-1] and place.running)
            if last or not over(budget, left, billed):
                break
            left.remove(place)
            victims.add(place)
        return victims

    def _at_a_rounding(self) -> bool:
        """Whether a rounding error decides, so that either answer is right."""
        budget = self.budget
        if budget is None or budget.tokens is None:
            return False
        left = self.those(State.ACTIVE)
        by_size = by_context(place for place in left if place.turned)
        spare = budget.tokens - prefixes(left) - sum(weight(budget, place) for place in left)
        for place in [None, *by_size]:
            spare += weight(budget, place) if place is not None else 0
            if abs(spare) < ROUNDING:
                return True
        return False

    # ------------------------------------------------------------------ everything counted over

    def check(self) -> None:
        """What must hold between any two steps of the event loop."""
        active = self.those(State.ACTIVE)
        assert self.live == len(self.living())
        assert self.active == len(active)
        assert self.paused == len(self.those(State.PAUSED))
        assert self._active.running == sum(place.running > 0 for place in self.living())
        assert self.running == sum(place.running > 0 or begun_ahead(place) for place in self.living())
        assert self._active.weighed == sum(place.weighed for place in active)
        private = sum(place.private for place in active)
        assert abs(self.working_set - private - prefixes(active)) < ROUNDING, self
        assert abs(self._active.outlook.growth - sum(place.growth for place in active)) < ROUNDING
        assert all(place.age >= 0 for place in self.living())
        assert active or self.working_set == 0
        self._check_kinds(active)
        self._check_structures(active)
        self._check_loans()
        self._check_room()
        view = self.view()
        assert (view.active, view.paused, view.queued) == (self.active, self.paused, len(self.those(State.QUEUED)))
        assert all(place.running >= 0 and place.borrowers >= 0 for place in self.living())

    def _check_kinds(self, active: list[Place]) -> None:
        for kind in {place.kind for place in self.places}:
            assert kind.active == sum(place.kind is kind for place in active)
            assert kind.cold == sum(place.kind is kind and not place.warm for place in active)

    def _check_structures(self, active: list[Place]) -> None:
        queue = self.queue()
        assert list(self._queue) == queue
        assert len(self._queue) == len(queue)
        assert self._queue.head() is (queue[0] if queue else None)
        sized = sum(place.private for place in queue if place.sized)
        assert abs(self._queue._sized.before((math.inf,)).tokens - sized) < ROUNDING, "a size that is out of date"
        assert list(self._active.by_size) == by_context(place for place in active if place.turned)
        assert list(self._active.held) == by_context(place for place in active if place.waiters)
        assert [waiting.name for waiting in self.waiting()] == [place.name for place in [*self._active.held, *queue]]
        idle = [place for place in active if place.turned and not place.running]
        assert set(self._active.idle) == set(idle)
        assert list(self._active.idle.values()) == sorted(self._active.idle.values()), (
            "the one idle for longest is not the first"
        )
        for place in self.places:
            if place.state is State.LAPSED:
                assert not place.waiters
                assert not place.running
                assert place.queue_key is place.order_key is None
            if place.state is State.FINISHED:
                assert not place.waiters
                assert place.queue_key is place.order_key is None

    def _check_loans(self) -> None:
        loans = Counter(place.lender for place in self.living() if place.lender is not None)
        for place in self.living():
            assert place.borrowers == loans[place]
            if place.state is State.LENT:
                assert place.borrowers
                assert not place.waiters
            if place.state is State.ACTIVE and place.borrowers:
                assert place.running, f"{place} keeps a place that it has lent"

    def _check_room(self) -> None:
        budget = self.budget
        if budget is None or self._lines.closed:
            return
        for head in self.queue()[:1]:
            assert not self.fits(head, slack=-ROUNDING), f"{head} waits while there is room: {self}"
            assert self.active, "somebody waits and nobody is active"
        if not self._at_a_rounding():
            held = {place for place in self.those(State.ACTIVE) if place.waiters}
            assert held <= self.victims(), f"a turn is held while there is room: {self}"
        if budget.agents is not None and self.active > budget.agents:
            assert self.active <= self._most, f"more places than the budget, and not since a shrink: {self}"
        self._most = self.active

    def check_empty(self) -> None:
        """What must hold when everybody has gone."""
        self.check()
        assert (self.live, self.active, self.running, self.paused, self._active.weighed) == (0, 0, 0, 0, 0)
        assert self.working_set == 0
        assert len(self._queue) == len(self._active.held) == len(self._active.by_size) == 0
        assert all(kind.active == kind.cold == 0 for kind in {place.kind for place in self.places})


def prefixes(places: Iterable[Place]) -> float:
    """The prefixes of these places, each kind's billed once."""
    kinds: set[Kind] = {place.kind for place in places}
    return sum(kind.shared_prefix for kind in kinds)


def weight(budget: Budget, place: Place) -> float:
    return place.private + budget.pause_turns * place.growth


def over(budget: Budget, places: list[Place], billed: float) -> bool:
    """Whether these are over the pause line. A prefix stays billed: it goes only with the last of its kind."""
    if budget.agents is not None and len(places) > budget.agents:
        return True
    return budget.tokens is not None and billed + sum(weight(budget, place) for place in places) > budget.tokens


def by_context(places: Iterable[Place]) -> list[Place]:
    """Smallest first, the newest among those alike; who has a turn in flight as it will be after it."""

    def power(place: Place) -> int:
        size, power = place.footprint + (place.growth if place.running else 0), 0
        while size >= 1:
            size, power = size / 2, power + 1
        return power

    return sorted(places, key=lambda place: (power(place), -place.seq))


def begun_ahead(place: Place) -> bool:
    """Whether a thread has begun the next turn on it."""
    return place.head_start is not None and place.head_start.used
