"""The active places, and what they hold together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .order import OrderedSums
from .outlook import Outlook
from .place import Place, State

if TYPE_CHECKING:
    from collections.abc import Callable


class ActivePlaces:
    """Who is active, in sums and in orders that are kept as places change. It decides nothing.

    Args:
        clock: Seconds that never go back, such as `loop.time`.

    Attributes:
        count: How many are active.
        weighed: Of those, how many have reported tokens.
        running: Places with a turn in flight; one that was lent meanwhile counts too.
        outlook: What the active ones hold, without the prefixes that they share, and will hold.
        prefixes: The shared prefixes of their kinds, each billed once. [KV tokens]
        by_size: Those that ever began a turn, in the order in which they may be paused.
        held: Those with a turn that waits to begin beside others in flight, in the same order.
        idle: Those between two turns, by when that began, who is idle for longest first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.count = 0
        self.weighed = 0
        self.running = 0
        self.outlook = Outlook()
        self.prefixes = 0.0
        self.by_size: OrderedSums[Place] = OrderedSums()
        self.held: OrderedSums[Place] = OrderedSums()
        self.idle: dict[Place, float] = {}

    @property
    def working_set(self) -> float:
        """Σ of the footprints, a shared prefix billed once. [KV tokens]"""
        return self.outlook.private + self.prefixes

    def prefixes_with(self, place: Place) -> float:
        """The shared prefixes were this place active too. [KV tokens]"""
        return self.prefixes + (0 if place.kind.active else place.kind.shared_prefix)

    # ------------------------------------------------------------------ coming and going

    def add(self, place: Place) -> None:
        """Take a place in, whose state says so already."""
        self._count(place, 1)
        self.count += 1
        kind = place.kind
        kind.active += 1
        if kind.active == 1:
            self.prefixes += kind.shared_prefix
        if not place.warm:
            kind.cold += 1
        if place.turned:
            self._enter_order(place)
        self.note_idle(place)

    def remove(self, place: Place) -> None:
        """Take a place out, before its state says so."""
        self.idle.pop(place, None)
        if place.order_key is not None:
            self._leave_order(place)
        self._count(place, -1)
        self.count -= 1
        kind = place.kind
        kind.active -= 1
        if kind.active == 0:
            self.prefixes -= kind.shared_prefix
        if not place.warm:
            kind.cold -= 1
        if self.count == 0:
            self.prefixes = 0.0
            self.outlook.clear()

    def hold(self, place: Place) -> None:
        """Note that a turn of it waits to begin."""
        self.held.add(size_key(place), place, 0, 0)

    def release(self, place: Place) -> None:
        """Note that none does any more."""
        self.held.remove(size_key(place))

    # ------------------------------------------------------------------ changes of a place, active or not

    def run(self, place: Place, turns: int) -> None:
        """Let so many turns more be in flight, or fewer."""
        before = place.running > 0
        place.running += turns
        after = place.running > 0
        if after != before:
            self.running += after - before
            self._reorder(place)
        self.note_idle(place)

    def forget_turns(self, place: Place) -> None:
        """Let those in flight of a place that is over count no more."""
        self.running -= place.running > 0

    def note_idle(self, place: Place) -> None:
        """Note since when it is between two turns, or that it is not."""
        if place.running or place.state is not State.ACTIVE or not place.turned:
            self.idle.pop(place, None)
        elif place not in self.idle:
            self.idle[place] = self._clock()

    def begin_to_turn(self, place: Place) -> None:
        """Put it in the order of those that may be paused, before its first turn."""
        self.resize(place, place.footprint, weighed=False)  # as its kind is known by now
        self._enter_order(place)

    def resize(self, place: Place, footprint: float, *, weighed: bool) -> None:
        """Set a footprint. [KV tokens]"""
        counted = place.state is State.ACTIVE
        holds = counted and bool(place.waiters)
        if counted:
            self._count(place, -1)
        if holds:
            self.release(place)
        place.weighed |= weighed
        place.footprint = footprint
        place.size_up()
        if counted:
            self._count(place, 1)
        if place.order_key is not None and place.order_key == _size_key_now(place):
            self.by_size.reweigh(place.order_key, place.private, place.growth)
        elif place.order_key is not None:
            self._leave_order(place)
            self._enter_order(place)
        if holds:
            self.hold(place)

    def _count(self, place: Place, sign: int) -> None:
        (self.outlook.add if sign > 0 else self.outlook.remove)(place)
        self.weighed += sign * place.weighed

    def _enter_order(self, place: Place) -> None:
        place.order_key = size_key(place)
        self.by_size.add(place.order_key, place, place.private, place.growth)

    def _leave_order(self, place: Place) -> None:
        self.by_size.remove(size_key(place))
        place.order_key = None

    def _reorder(self, place: Place) -> None:
        if place.order_key is None or place.order_key == _size_key_now(place):
            return
        holds = bool(place.waiters)
        if holds:
            self.release(place)
        self._leave_order(place)
        self._enter_order(place)
        if holds:
            self.hold(place)


def size_key(place: Place) -> tuple[float, ...]:
    """Where a place stands among those that may be paused, smallest first: by the power of two, then newest first.

    Were sizes compared to the token, agents would overtake each other with every turn: whoever comes back from one
    would be larger than its like in flight, so that among equals nobody is ever the smallest; and who grows slowly,
    which are the agents that live longest, would be paused again and again. For the same reason what the turn in
    flight will add is counted already.
    """
    return _size_key_now(place) if place.order_key is None else place.order_key


def _size_key_now(place: Place) -> tuple[float, ...]:
    """`size_key` of a place that has none yet, or that may have grown out of its own."""
    _, power = math.frexp(place.footprint + (place.growth if place.running else 0.0))
    return (power, -place.seq)
