"""Random lives of random agents under a random budget, each step held against the naive rules."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from admission.naive import Watched
from admission.stage import Ahead
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from concur_agents.control.base import Budget
from concur_agents.errors import AgentFinished, GateClosed, MetricsError
from concur_agents.head_start import HeadStart
from concur_agents.kind import Kind, Totals
from concur_agents.place import Place, State

if TYPE_CHECKING:
    from collections.abc import Callable

TICKS = st.integers(0, 3)
"""Steps of the loop that run after a move: 0 lets several moves meet before any waiter has woken."""

WHICH = st.integers(0, 100)
"""Picks one of those to whom a move applies."""

SIZES = [50, 100, 200, 300, 500, 900, 2000]
TOKENS = st.sampled_from(SIZES)
AGENTS = [None, None, 1, 2, 3, 4, 8]
LIMITS = [None, 100, 300, 600, 1000, 2000, 5000]
RESERVES = [(0, 0), (0, 1), (0, 3), (1, 1), (1, 3), (2, 3)]
"""Pauses and admissions, in turns."""

AHEAD = [0, 0, 3, 8]
"""How far ahead admissions look, in turns."""

LEASES = [None, None, 0, 1, 10]
"""How long a place is held through a tool wait. [s]"""

BUDGETS = st.builds(
    lambda agents, tokens, reserves, ahead, lease: Budget(agents, tokens, *reserves, ahead, lease),
    st.sampled_from(AGENTS),
    st.sampled_from(LIMITS),
    st.sampled_from(RESERVES),
    st.sampled_from(AHEAD),
    st.sampled_from(LEASES),
)
AHEADS = ["no", "offered", "offered", "withheld"]
"""Whether a turn that ends offers a head start."""

HAPPENINGS = ["1 s", "5 s", "20 s", "settle", "refuse", "close"]


def pick(some: list[Any], which: int) -> Any:
    return some[which % len(some)]


class Life:
    """One agent of the machine: its place, the task that asks for it, and its turns."""

    def __init__(self, place: Place, admitted: asyncio.Task[None]) -> None:
        self.place = place
        self.admitted = admitted
        self.asked: list[asyncio.Task[None]] = []
        self.begun = 0
        self.start: HeadStart | None = None
        self.untold: Ahead | None = None
        self.gone_on = False

    def inside(self) -> bool:
        """Whether it was admitted, as far as its own task knows, and is not over."""
        admitted = self.admitted.done() and not self.admitted.cancelled() and self.admitted.exception() is None
        return admitted and self.place.state is not State.FINISHED

    def here(self) -> bool:
        return self.place.state is not State.FINISHED

    def count_turns(self) -> None:
        for task in [task for task in self.asked if task.done()]:
            self.asked.remove(task)
            if task.cancelled():
                continue
            error = task.exception()
            assert error is None or isinstance(error, AgentFinished | GateClosed)
            self.begun += error is None

    def __repr__(self) -> str:
        return repr(self.place)


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.now = 0.0
        self.admission = Watched(lambda: self.now, Totals(), passing_limit_s=10)
        self.kinds = [Kind("a"), Kind("b"), Kind("given", given_prefix=100)]
        self.lives: list[Life] = []
        self.closed = False

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.loop.run_until_complete(asyncio.sleep(0))
        for life in self.lives:
            life.count_turns()

    def inside(self) -> list[Life]:
        return [life for life in self.lives if life.inside()]

    @initialize(crowd=st.lists(TOKENS, max_size=6), budget=BUDGETS, decided=st.booleans())
    def open(self, crowd: list[int], budget: Budget, decided: bool) -> None:
        """Start with a crowd that is over any small budget, or with an admission that has none yet."""
        if not decided:
            return
        self.admission.resize(Budget())
        for tokens in crowd:
            self._ask(0, 1, expected_tokens=tokens)
            self.begin_turns(len(self.lives) - 1, 1, 1)
        self.admission.resize(budget)

    # ------------------------------------------------------------------ what agents do

    @precondition(lambda self: not self.closed)
    @rule(kind=st.integers(0, 2), priority=st.integers(-1, 1), expected=st.none() | TOKENS, ticks=TICKS)
    def ask(self, kind: int, priority: int, expected: int | None, ticks: int) -> None:
        self._ask(kind, ticks, priority=priority, expected_tokens=expected)

    @precondition(lambda self: self.inside() and not self.closed)
    @rule(which=WHICH, kind=st.integers(0, 2), expected=st.none() | TOKENS, ticks=TICKS)
    def ask_inside(self, which: int, kind: int, expected: int | None, ticks: int) -> None:
        self._ask(kind, ticks, expected_tokens=expected, lender=pick(self.inside(), which).place)

    def _ask(self, kind: int, ticks: int, **options: Any) -> None:
        place = Place(f"{len(self.lives)}", self.kinds[kind], **options)
        self.lives.append(Life(place, self.loop.create_task(self.admission.acquire(place))))
        self.run(ticks)

    @precondition(inside)
    @rule(which=WHICH, turns=st.integers(1, 3), ticks=TICKS)
    def begin_turns(self, which: int, turns: int, ticks: int) -> None:
        """Turns of one agent, beside each other."""
        life = pick(self.inside(), which)
        for _ in range(turns):
            life.asked.append(self.loop.create_task(self.admission.begin_turn(life.place)))
        self.run(ticks)

    @precondition(inside)
    @rule(which=st.lists(WHICH, min_size=2, max_size=4), ticks=TICKS)
    def begin_turns_of_several(self, which: list[int], ticks: int) -> None:
        for one in which:
            self.begin_turns(one, 1, 0)
        self.run(ticks)

    @precondition(lambda self: any(life.begun for life in self.lives))
    @rule(which=WHICH, footprint=st.none() | TOKENS, counts=st.booleans(), ahead=st.sampled_from(AHEADS), ticks=TICKS)
    def end_turn(self, which: int, footprint: int | None, counts: bool, ahead: str, ticks: int) -> None:
        """One that a task began, or a thread: then the next one may have begun by the time that the loop hears."""
        life = pick([life for life in self.lives if life.begun], which)
        if life.gone_on:
            life.gone_on = False
        else:
            self._tell(life)
            life.start = HeadStart() if ahead != "no" else None
        life.begun -= 1
        if life.start is not None:
            self.admission.offer_head_start(life.place, life.start, withheld=ahead == "withheld")
        if footprint is not None:
            self.admission.resize_place(life.place, footprint, weighed=True)
        self.admission.end_turn(life.place, counts=counts)
        self.run(ticks)

    @precondition(lambda self: any(life.start for life in self.lives))
    @rule(which=WHICH, ticks=TICKS)
    def use_head_start(self, which: int, ticks: int) -> None:
        """In the middle of whatever the loop does."""
        self._use_head_start(pick([life for life in self.lives if life.start], which))
        self.run(ticks)

    def _use_head_start(self, life: Life) -> None:
        if life.untold is not None or not life.place.undisputed or not self.admission.at_ease():
            return
        ahead = Ahead(self.admission, life.place, life.start)
        if life.start.claim(ahead):
            life.untold = ahead
            life.begun += 1

    def in_threads(self) -> list[Life]:
        """Who may be in a turn that a thread ends and begins."""
        return [life for life in self.lives if life.begun and life.untold is None]

    @precondition(in_threads)
    @rule(which=WHICH, ticks=TICKS)
    def go_on_in_thread(self, which: int, ticks: int) -> None:
        """End a turn in its thread and begin the next one, before the loop hears of either."""
        life = pick(self.in_threads(), which)
        life.start = HeadStart()
        self._use_head_start(life)
        life.gone_on = life.untold is not None
        if not life.gone_on:
            life.start = None  # that turn runs on
        self.run(ticks)

    def told_next(self) -> list[Life]:
        """Of whose turns the loop can hear now; of those that have gone on it hears the end first."""
        return [life for life in self.lives if life.untold is not None and not life.gone_on]

    @precondition(told_next)
    @rule(which=WHICH, ticks=TICKS)
    def tell(self, which: int, ticks: int) -> None:
        self._tell(pick(self.told_next(), which))
        self.run(ticks)

    def _tell(self, life: Life) -> None:
        ahead, life.untold = life.untold, None
        if ahead is not None:
            ahead.tell()

    @rule()
    def withdraw_head_starts(self) -> None:
        self.admission.withdraw_head_starts()
        for life in self.lives:
            assert life.untold is None or life.untold.counted or life.gone_on
            assert bool(life.place.running) >= bool(life.begun) or not life.here()

    @precondition(inside)
    @rule(which=WHICH, ticks=TICKS)
    def finish(self, which: int, ticks: int) -> None:
        place = pick(self.inside(), which).place
        self.admission.finish(place)
        self.admission.finish(place)
        self.run(ticks)

    def waits(self) -> bool:
        return any(not life.admitted.done() for life in self.lives)

    @precondition(waits)
    @rule(which=WHICH, ticks=TICKS)
    def cancel_an_admission(self, which: int, ticks: int) -> None:
        pick([life for life in self.lives if not life.admitted.done()], which).admitted.cancel()
        self.run(ticks)

    @precondition(lambda self: any(life.asked for life in self.lives))
    @rule(which=WHICH, ticks=TICKS)
    def cancel_a_turn(self, which: int, ticks: int) -> None:
        pick([task for life in self.lives for task in life.asked], which).cancel()
        self.run(ticks)

    # ------------------------------------------------------------------ what happens to them

    @rule(budget=BUDGETS, ticks=TICKS)
    def resize(self, budget: Budget, ticks: int) -> None:
        self.admission.resize(budget)
        self.run(ticks)

    @rule(kind=st.integers(0, 2), prompt=TOKENS, cached=st.none() | st.integers(0, 200), growth=st.integers(0, 100))
    def learn(self, kind: int, prompt: int, cached: int | None, growth: int) -> None:
        known = self.kinds[kind]
        before = known.shared_prefix
        known.growth.learn(growth)
        known.learn_first_turn(prompt, cached)
        self.admission.shared_prefix_changed(known, before)

    @rule(what=st.sampled_from(HAPPENINGS), ticks=TICKS)
    def happens(self, what: str, ticks: int) -> None:
        if what.endswith(" s"):
            self.now += int(what.split(maxsplit=1)[0])
        elif what == "refuse":
            self.admission.refuse(MetricsError("no metrics"))
        elif what == "close" and len(self.lives) > 8:
            self.closed = True
            self.admission.close()
        elif what == "settle":
            self.settle()
        self.run(ticks)

    # ------------------------------------------------------------------ what holds

    @invariant()
    def everything_adds_up(self) -> None:
        self.admission.check()

    @invariant()
    def a_turn_runs_if_and_only_if_its_agent_was_told_so(self) -> None:
        for life in self.lives:
            if life.place.state is State.FINISHED:
                continue
            uncounted = life.untold is not None and not life.untold.counted
            assert life.begun <= life.place.running + uncounted <= life.begun + len(life.asked)

    @invariant()
    def who_has_begun_by_a_head_start_has_its_place(self) -> None:
        for life in self.lives:
            if life.here() and life.untold is not None and not life.untold.counted:
                assert life.place.running if life.gone_on else life.place.head_start is life.start
                assert life.gone_on or life.place.state is State.ACTIVE

    def settle(self) -> None:
        self.run(5)
        for life in self.lives:
            if life.gone_on:
                life.gone_on = False
                life.begun -= 1
                self.admission.offer_head_start(life.place, life.start, withheld=False)
                self.admission.end_turn(life.place)
            self._tell(life)
        self.run(5)
        for life in self.lives:
            if not life.admitted.done():
                assert life.place.state is State.QUEUED
            elif life.admitted.cancelled() or life.admitted.exception() is not None:
                assert life.place.state is State.FINISHED or not life.place.seq
            else:
                assert life.place.state is not State.QUEUED
            if life.place.state is not State.FINISHED:
                assert life.place.running == life.begun
            else:
                assert not life.asked

    def teardown(self) -> None:
        try:
            self._everybody_goes()
        finally:
            self.loop.close()

    def _everybody_goes(self) -> None:
        self.settle()
        for life in self.lives:
            life.admitted.cancel()
            for task in life.asked:
                task.cancel()
        self.settle()
        self.everything_adds_up()
        for life in self.lives:
            if life.inside():
                self.admission.finish(life.place)
                self.everything_adds_up()
        self.settle()
        self.admission.check_empty()
        assert self.complaints == []


AdmissionMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestAdmission = AdmissionMachine.TestCase


class Walk:
    """The same moves, chosen by weight: long lives with many pauses, which shrinking has no interest in."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.machine = AdmissionMachine()

    def one_of(self, *some: Any) -> Any:
        return self.random.choice(some)

    def size(self) -> int | None:
        return self.one_of(None, *SIZES)

    def budget(self) -> Budget:
        limits = self.one_of(*AGENTS), self.one_of(*LIMITS)
        return Budget(*limits, *self.one_of(*RESERVES), self.one_of(*AHEAD), self.one_of(*LEASES))

    def cancel_as_room_comes(self, which: int, ticks: int) -> None:
        self.machine.cancel_a_turn(which, 0)
        self.machine.resize(Budget(), ticks)

    def step(self) -> None:
        machine, which, ticks = self.machine, self.random.randrange(1000), self.one_of(0, 1, 3)
        kind, turns, footprint = self.one_of(0, 1, 2), self.one_of(1, 1, 2, 3), self.size()
        inside = bool(machine.inside())
        running = any(life.begun for life in machine.lives)
        asking = any(life.asked for life in machine.lives)
        cached, growth = self.one_of(None, 0, 60, 200), self.one_of(0, 40)
        moves: list[tuple[float, bool, Callable[[], None]]] = [
            (3, not machine.closed, lambda: machine.ask(kind, self.one_of(-1, 0, 0, 1), footprint, ticks)),
            (1, inside and not machine.closed, lambda: machine.ask_inside(which, kind, footprint, ticks)),
            (6, inside, lambda: machine.begin_turns(which, turns, ticks)),
            (5, running, lambda: machine.end_turn(which, footprint, which > 50, self.one_of(*AHEADS), ticks)),
            (2, any(life.start for life in machine.lives), lambda: machine.use_head_start(which, ticks)),
            (2, bool(machine.in_threads()), lambda: machine.go_on_in_thread(which, ticks)),
            (1, bool(machine.told_next()), lambda: machine.tell(which, ticks)),
            (0.2, True, machine.withdraw_head_starts),
            (1.5, inside, lambda: machine.finish(which, ticks)),
            (0.5, machine.waits(), lambda: machine.cancel_an_admission(which, ticks)),
            (1, asking, lambda: machine.cancel_a_turn(which, ticks)),
            (1, True, lambda: machine.resize(self.budget(), ticks)),
            (1, asking, lambda: self.cancel_as_room_comes(which, ticks)),
            (1, True, lambda: machine.learn(kind, self.one_of(*SIZES), cached, growth)),
            (1, True, lambda: machine.happens(self.one_of(*HAPPENINGS[:4]), ticks)),
            (0.05, True, lambda: machine.happens(self.one_of(*HAPPENINGS[4:]), ticks)),
        ]
        moves = [move for move in moves if move[1]]
        (_, _, move) = self.random.choices(moves, weights=[weight for weight, _, _ in moves])[0]
        move()
        machine.everything_adds_up()
        machine.a_turn_runs_if_and_only_if_its_agent_was_told_so()
        machine.who_has_begun_by_a_head_start_has_its_place()


@pytest.mark.parametrize("seed", range(40))
def test_over_long_lives_everything_adds_up_too(seed):
    walk = Walk(seed)
    try:
        walk.machine.resize(walk.budget(), 0)
        for _ in range(150):
            walk.step()
    finally:
        walk.machine.teardown()
