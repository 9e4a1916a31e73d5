"""The places and the queue: a weighed, resizable, fair semaphore, and the only mutable state that agents share.

The two lines of `Lines`, who may enter and who has to pause, are both applied at every event (docs/behaviour.md).
Who has been paused for `longest_pause_s` is *overdue*: it goes before all others of its priority, and whoever begins a
turn makes room for it.

A third rule applies while an agent waits for a tool: its place is *leased*. Once the lease has lapsed the place may be
taken by a waiter that would not fit otherwise; untaken, its agent goes on unhindered, else it joins the paused ones at
its next turn.

Work in flight is never cut off, and at least one agent is always active. Every change ends in `_pump`, so nobody
waits while there is room. All of it runs on one event loop, so no lock is needed: nothing here awaits between
reading the state and changing it. What a thread may do by itself is to begin the next turn of an active place, by a
*head start* (`HeadStart`): before such a place is given to anybody else it is seen whether the thread has.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING

from .active import ActivePlaces
from .control.base import PoolView
from .errors import AgentFinished, ConcurError, GateClosed
from .lines import Lines
from .place import Place, State, Waiting, WaitingQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from .control.base import Budget
    from .head_start import HeadStart
    from .kind import Kind, Totals

REWRITTEN_SHARE = 0.5
"""A context of less than this share of what it was begins a new life: a summary of it, or another task."""


class Admission:
    """Who is active, who waits, and the rule between them.

    Args:
        clock: Seconds that never go back, such as `loop.time`.
        totals: Where pauses and waits are counted.
        passing_limit_s: How long smaller agents may pass a big head. [s]
        longest_pause_s: How long an agent stays paused before others make room for it. [s]
    """

    def __init__(
        self,
        clock: Callable[[], float],
        totals: Totals,
        *,
        passing_limit_s: float,
        longest_pause_s: float = math.inf,
    ) -> None:
        self._clock = clock
        self._totals = totals
        self._longest_pause_s = longest_pause_s
        self._queue = WaitingQueue()
        self._active = ActivePlaces(clock)
        self._lines = Lines(self._active, self._queue, passing_limit_s=passing_limit_s)
        self._pauses: dict[Place, float] = {}  # paused places that are not overdue, by when that began
        self._seq = 0
        self._pause_seq = 0
        self.live = 0
        self.paused = 0

    @property
    def budget(self) -> Budget | None:
        """What may be active; None: not decided yet, so nobody enters."""
        return self._lines.budget

    @property
    def active(self) -> int:
        """How many places are active."""
        return self._active.count

    @property
    def running(self) -> int:
        """How many places have a turn in flight, one that a thread has begun by a head start included."""
        starts = [place.head_start for place in list(self._active.idle)]
        return self._active.running + sum(start is not None and start.used for start in starts)

    @property
    def working_set(self) -> float:
        """Σ of the footprints of the active agents, a shared prefix billed once. [KV tokens]"""
        return self._active.working_set

    def view(self) -> PoolView:
        """The agents in aggregates, for a controller."""
        head = self._queue.head()
        if head is not None:
            head.size_up()
        totals = self._totals
        return PoolView(
            active=self._active.count,
            running=self.running,
            paused=self.paused,
            queued=len(self._queue) - self.paused,
            weighed=self._active.weighed,
            working_set_tokens=self._active.working_set,
            growth_tokens=self._active.outlook.growth,
            head_tokens=(head.footprint or None) if head is not None else None,
            turns=totals.turns,
            prompt_tokens=totals.prompt_tokens,
            output_tokens=totals.output_tokens,
            kept_tokens=totals.kept_tokens,
            reusable_tokens=totals.reusable_tokens,
            recomputed_tokens=totals.recomputed_tokens,
            lost_tokens=totals.lost_tokens,
            refusals=totals.refusals,
        )

    # ------------------------------------------------------------------ the life of a place

    async def acquire(self, place: Place) -> None:
        """Wait for a place and take it. Cancelled or failing, it is as if never asked.

        Raises:
            GateClosed: If the gate is closed, before or meanwhile.
            ConcurError: Whatever `refuse` was called with meanwhile.
        """
        if self._lines.closed:
            raise GateClosed("this gate is closed: make a new one, or keep agents inside its `async with`")
        self._seq += 1
        place.seq = self._seq
        place.since = self._clock()
        self.live += 1
        if place.lender is not None:
            self._lend(place.lender)
        if place.lender is None and not self._queue and self._lines.fits(place):
            self._activate(place)
            return
        self._queue.add(place)  # a loan frees room that others see first: the pump gives it out in their order
        self._pump()
        if place.state is State.ACTIVE:
            return
        waiter = self._waiter(place)
        try:
            await waiter
        except BaseException:
            _failed(waiter)
            self.finish(place)
            raise

    def begin_turn_at_once(self, place: Place) -> bool:
        """Begin a turn unless it has to wait, or to be refused; whether it has begun. `begin_turn` does all of it."""
        if place.state is not State.ACTIVE:
            return False
        self.withdraw_head_start(place)
        if not place.turned:
            self._begin_to_turn(place)
        if place.waiters or self._lines.must_pause(place):
            return False
        self._active.run(place, 1)
        return True

    async def begin_turn(self, place: Place) -> None:
        """Begin a turn; wait here first if the place has to be given up, until it is won back.

        Raises:
            AgentFinished: If the place is over.
            GateClosed: If the gate is closed while it waits.
        """
        if place.state is State.FINISHED:
            raise finished(place.name)
        if self._lines.closed and place.state is not State.ACTIVE:
            raise GateClosed(f"agent {place.name!r} has no place, and the gate is closed")
        if self.begin_turn_at_once(place):
            return
        if not place.turned:
            self._begin_to_turn(place)
        if place.state in {State.LENT, State.LAPSED}:
            self._wait_paused(place)
        elif place.state is State.PAUSED and not place.waiters:
            place.since = self._clock()
        elif place.state is State.ACTIVE and place.running:
            if not place.waiters:
                place.since = self._clock()
                self._active.hold(place)
        elif place.state is State.ACTIVE:
            self._pause(place)
        # Queued up before the pump, so that room that is already there is seen by this turn too.
        waiter = self._waiter(place)
        self._pump()
        await self._await_turn(place, waiter)

    def end_turn(self, place: Place, *, counts: bool = True) -> None:
        """End a turn that `begin_turn` let begin.

        Args:
            place: Whose turn it is.
            counts: False if it made no call, and so tells nothing of the size of its kind.
        """
        if place.state is State.FINISHED:
            return
        self._active.run(place, -1)
        place.resumed &= not counts
        if counts:
            self._grow_older(place)
        if counts and not place.warm:
            place.warm = True
            place.kind.first_turns += 1
            place.kind.cold -= place.state is State.ACTIVE
        if place.state is State.ACTIVE and (place.borrowers or (place.waiters and not place.running)):
            self._step_back(place)
        self._pump()

    def resize_place(self, place: Place, footprint: float, *, weighed: bool) -> None:
        """Set the footprint of a place, as its agent reported it. [KV tokens]"""
        if place.state is State.FINISHED:
            return
        # Of a place that nobody had told the size of, a smaller one only sets a guess right.
        before = place.private if place.weighed else 0.0
        self._resize(place, footprint, weighed=weighed)
        if place.private < REWRITTEN_SHARE * before:
            self._end_life(place)
        self._pump()

    def finish(self, place: Place) -> None:
        """Give everything back that the place holds: its share, its position in the queue, what it borrowed.

        May be called at any time and any number of times.
        """
        if place.state is State.FINISHED:
            return
        self.withdraw_head_start(place)
        was_active = place.state is State.ACTIVE
        if place.queue_key is not None:
            self._leave_queue(place)
        if was_active:
            if place.waiters:
                self._active.release(place)
            self._active.remove(place)
            if not place.warm:
                place.kind.first_turns += 1
        self._end_life(place)
        place.state = State.FINISHED
        self._active.forget_turns(place)
        for waiter in place.waiters:
            if not waiter.done():
                waiter.set_exception(finished(place.name))
        place.waiters.clear()
        self.live -= 1
        if place.lender is not None:
            self._return_to_lender(place.lender, handed_back=was_active)
        self._pump()

    # ------------------------------------------------------------------ turns that threads begin by themselves

    def at_ease(self) -> bool:
        """Whether nobody has to pause or is paused. In any thread, where it may be of a moment ago."""
        return not self.paused and self._lines.at_ease()

    def offer_head_start(self, place: Place, start: HeadStart, *, withheld: bool) -> None:
        """Let the next turn of a place begin by this head start, and by no other, if nothing is against it.

        Args:
            place: Whose one turn in flight, of a thread, is about to end. Only about to: should the next one have begun
                by now, then there is no moment without one in flight.
            start: The head start, which the thread has and may have used.
            withheld: Whether something else is against it.
        """
        if place.running == 1 and place.undisputed and not withheld:
            place.head_start = start
        elif (beginning := start.withdraw()) is not None:
            beginning.count()

    def withdraw_head_start(self, place: Place) -> None:
        """Let the next turn of a place ask again; one that has begun in a thread counts from now on."""
        start, place.head_start = place.head_start, None
        if start is not None and (beginning := start.withdraw()) is not None:
            beginning.count()

    def withdraw_head_starts(self) -> None:
        """The same of all places: what is in flight afterwards is known."""
        for place in [place for place in self._active.idle if place.head_start is not None]:
            self.withdraw_head_start(place)

    def count_turn(self, place: Place) -> None:
        """Count a turn as in flight that has begun by a head start."""
        if place.state is not State.FINISHED:
            self._active.run(place, 1)

    # ------------------------------------------------------------------ the budget

    def resize(self, budget: Budget) -> None:
        """Set what may be active from now on. Who is active stays so until it begins a turn."""
        self._lines.budget = budget
        self._pump()

    def look_again(self) -> None:
        """Let in who may enter by now: leases lapse, and heads lose patience, without an event of their own."""
        self._pump()

    def shared_prefix_changed(self, kind: Kind, before: int) -> None:
        """Take note that a kind's shared prefix is another than before. [tokens]"""
        self._queue.reweigh(kind)
        if kind.active:
            self._active.prefixes += kind.shared_prefix - before
        # All of them before anybody enters: halfway, the sum may be less than before and after.
        for place in [place for place in self._active.by_size if place.kind is kind]:
            self._resize(place, place.footprint, weighed=False)
        self._pump()

    def refuse(self, error: ConcurError) -> None:
        """Wake every agent that was never admitted with an error."""
        for place in list(self._queue):
            if place.state is State.QUEUED:
                _fail(place, error)

    def close(self) -> None:
        """Wake all who wait with `GateClosed`, and let nobody in any more. Active agents may finish."""
        self._lines.closed = True
        for place in [*self._queue, *self._active.held]:
            _fail(place, GateClosed(f"agent {place.name!r} was waiting when the gate was closed"))

    def longest_wait_s(self, *, once_admitted: bool = False) -> float:
        """How long whoever waits for longest has waited so far; 0 if nobody does. [s]

        Args:
            once_admitted: Look only at who has had a place before.
        """
        now = self._clock()
        waiting = itertools.chain(self._active.held, self._queue.unordered())
        return max(
            (now - place.since for place in waiting if not once_admitted or place.state is not State.QUEUED),
            default=0.0,
        )

    def waiting(self) -> list[Waiting]:
        """Who waits, since when, and for what; in the order of the queue."""
        now = self._clock()
        head = self._queue.head()
        for place in self._queue:
            place.size_up()
        return [
            Waiting(
                name=place.name,
                kind=place.kind.name,
                state="held" if place.state is State.ACTIVE else place.state.value,
                waited_s=now - place.since,
                footprint=place.footprint,
                reason=self._lines.why(place, head),
            )
            for place in [*self._active.held, *self._queue]
        ]

    # ------------------------------------------------------------------ after every change

    def _pump(self) -> None:
        if self._pauses:
            self._hurry()
        self._let_held_go_on()
        taken = False
        while (head := self._queue.head()) is not None:
            chosen = head if self._lines.fits(head) else self._passing(head)
            if chosen is not None:
                self._leave_queue(chosen)
                self._activate(chosen)
            elif self._take_lapsed(head):
                taken = True
            else:
                break
        if taken:  # a large place that was given away for a small head leaves room
            self._let_held_go_on()

    def _let_held_go_on(self) -> None:
        active = self._active
        while (place := active.held.last()) is not None and not self._lines.must_pause(place):
            active.release(place)
            self._end_wait(place)
            active.run(place, _wake(place))

    def _hurry(self) -> None:
        """Put those who have been paused for too long before all others of their priority."""
        due_by = self._clock() - self._longest_pause_s
        for place, _ in list(itertools.takewhile(lambda paused: paused[1] <= due_by, self._pauses.items())):
            del self._pauses[place]
            self._queue.remove(place)
            place.overdue = True
            self._queue.add(place)

    def _passing(self, head: Place) -> Place | None:
        now = self._clock()
        chosen = self._lines.passing(head, now)
        if chosen is not None and head.passed_since is None and not self._lines.too_cold(head):
            head.passed_since = now
        return chosen

    def _take_lapsed(self, head: Place) -> bool:
        """Take the places that have been idle for longest, past their lease, if that lets the head in."""
        budget, active = self.budget, self._active
        if budget is None or budget.tool_lease_s is None or self._lines.closed or self._lines.too_cold(head):
            return False
        began_by = self._clock() - budget.tool_lease_s
        rest = active.outlook.beside(head)
        room = budget.tokens - active.prefixes_with(head) if budget.tokens is not None else math.inf
        agents = active.count + 1 - budget.agents if budget.agents is not None else 0
        taken = []
        for place, began in active.idle.items():
            if began > began_by:
                return False
            if place.head_start is not None:
                self.withdraw_head_start(place)
                if place.running:  # so that it is not idle after all
                    return self._take_lapsed(head)
            taken.append(place)
            rest.remove(place)
            agents -= 1
            if rest.highest(budget) <= room and agents <= 0:
                break
        else:
            return False
        for place in taken:
            active.remove(place)
            place.state = State.LAPSED
        return True

    # ------------------------------------------------------------------ moves; each leaves the sums right

    def _activate(self, place: Place) -> None:
        place.size_up()
        place.sized = True
        place.resumed = place.state is State.PAUSED
        place.state = State.ACTIVE
        place.passed_since = None
        place.overdue = False
        self._active.add(place)
        woken = _wake(place)
        if woken:
            self._end_wait(place)
        if place.turned:
            self._active.run(place, woken)
        if place.borrowers and not woken:
            self._step_back(place)

    def _step_back(self, place: Place) -> None:
        """Take the place of an agent that lends it, or has to pause; turns that it waits to begin wait on."""
        if place.waiters:
            self._active.release(place)
            self._pause(place)
        else:
            self._active.remove(place)
            place.state = State.LENT

    def _pause(self, place: Place) -> None:
        self._active.remove(place)
        self._totals.pauses += 1
        self._wait_paused(place)

    def _wait_paused(self, place: Place) -> None:
        place.state = State.PAUSED
        if not place.waiters:
            place.since = self._clock()
        self.paused += 1
        self._pause_seq += 1
        place.pause_seq = self._pause_seq
        self._pauses[place] = self._clock()
        self._queue.add(place)

    def _leave_queue(self, place: Place) -> None:
        self._queue.remove(place)
        self.paused -= place.state is State.PAUSED
        self._pauses.pop(place, None)

    def _lend(self, lender: Place) -> None:
        if lender.state is State.FINISHED:
            return
        self.withdraw_head_start(lender)
        lender.borrowers += 1
        if lender.state is State.ACTIVE:
            # Even with a turn in flight: it may be a stream that ends only after the borrower has run.
            self._step_back(lender)

    def _return_to_lender(self, lender: Place, *, handed_back: bool) -> None:
        if lender.state is State.FINISHED:
            return
        lender.borrowers -= 1
        if lender.borrowers or lender.state not in {State.LENT, State.PAUSED}:
            return
        if handed_back and (self._lines.closed or self._lines.fits(lender)):
            if lender.queue_key is not None:
                self._leave_queue(lender)
            self._activate(lender)
        elif lender.state is State.LENT:
            self._wait_paused(lender)

    def _resize(self, place: Place, footprint: float, *, weighed: bool) -> None:
        if place.state is State.PAUSED:
            self._queue.remove(place)
        self._active.resize(place, footprint, weighed=weighed)
        if place.state is State.PAUSED:
            self._queue.add(place)

    def _begin_to_turn(self, place: Place) -> None:
        place.turned = True
        if place.state is State.ACTIVE:
            self._active.begin_to_turn(place)
            self._pump()

    def _grow_older(self, place: Place) -> None:
        place.kind.lives.turn_ended(place.age)
        place.age += 1
        if place.state is State.ACTIVE:
            self._active.outlook.renew(place)

    def _end_life(self, place: Place) -> None:
        if place.age:
            place.kind.lives.life_ended(place.age)
            place.age = 0

    def _end_wait(self, place: Place) -> None:
        self._totals.max_wait_s = max(self._totals.max_wait_s, self._clock() - place.since)

    # ------------------------------------------------------------------ waiting

    @staticmethod
    def _waiter(place: Place) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place.waiters.append(waiter)
        return waiter

    async def _await_turn(self, place: Place, waiter: asyncio.Future[None]) -> None:
        try:
            await waiter
        except BaseException:
            if waiter.done() and not _failed(waiter):
                self.end_turn(place, counts=False)
            elif waiter in place.waiters:
                place.waiters.remove(waiter)
                if not place.waiters and place.state is State.ACTIVE:
                    self._active.release(place)
            raise


def _wake(place: Place) -> int:
    # Who was cancelled meanwhile is done already and does not count: nobody would end its turn.
    awake = [waiter for waiter in place.waiters if not waiter.done()]
    for waiter in awake:
        waiter.set_result(None)
    place.waiters.clear()
    return len(awake)


def _fail(place: Place, error: ConcurError) -> None:
    for waiter in place.waiters:
        if not waiter.done():
            waiter.set_exception(error)


def _failed(waiter: asyncio.Future[None]) -> bool:
    # Looking at the exception also tells asyncio that it was seen, should a cancellation have come after it.
    return waiter.cancelled() or (waiter.done() and waiter.exception() is not None)


def finished(name: str) -> AgentFinished:
    """The error for a turn of an agent that is over."""
    return AgentFinished(
        f"agent {name!r} is over and its place given back: begin its turns inside `async with gate.agent()`, "
        "or await its background tasks before leaving it"
    )
