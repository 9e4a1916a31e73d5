"""A place at the gate, and the queue of those who wait for one."""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .life_table import FAR, MIDDLE, NEAR
from .order import Key, OrderedSums

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from .head_start import HeadStart
    from .kind import Kind

PASSING_TRIES = 8
"""How many agents behind a big head are looked at; more would make one admission cost as much as the queue is long."""

GROWTH_PRIOR = 1 / 3
"""Growth a turn while a kind has not shown its own, as a share of the private context. Were it zero, a whole batch
would come in before its second turns tell how fast it grows."""

SWEEP_SLACK = 64
"""Stale entries that a short queue may carry before it is swept."""


class State(enum.Enum):
    """Where a place is in its life."""

    QUEUED = "queued"
    ACTIVE = "active"
    PAUSED = "paused"
    LENT = "lent"
    LAPSED = "lapsed"
    """Taken by a waiter while its agent waited for a tool."""
    FINISHED = "finished"


class Place:
    """What an agent holds while it is active. Only `Admission` changes it.

    Attributes:
        name: The agent's name, for people.
        kind: Agents of one kind share what is learned.
        seq: Number in the order of arrival.
        pause_seq: Number of its last pause in the order of all pauses.
        priority: Higher goes first.
        sized: Whether its footprint is its own, and not what its kind weighs at the moment.
        weighed: Whether its agent has reported tokens.
        footprint: KV tokens of its contexts. [tokens]
        growth: Expected growth a turn. [tokens]
        age: Turns behind it in its present context.
        ahead: What it is expected to hold `AHEAD_TURNS` from now. [KV tokens]
        private: Footprint less the prefix that its kind shares. [tokens]
        running: Turns in flight.
        turned: Whether it ever began a turn: who never does is counted, but never paused.
        warm: Whether its first turn has ended.
        resumed: Whether it was won back for the turn that runs now: what that reads again was given up on purpose.
        waiters: Who waits for it: its agent before the first admission, turns later.
        since: When the present wait began. [s]
        passed_since: When it was first passed at the head of the queue; None: never. [s]
        overdue: Whether it has been paused for so long that others make room for it.
        lender: The place that is lent while this one waits or is active.
        borrowers: How many places this one is lent to.
        head_start: By which its next turn may begin in a thread, and may have begun, while it is active and idle.
    """

    # fmt: off
    __slots__ = (
        "age", "ahead", "borrowers", "footprint", "growth", "head_start", "kind", "lender", "name", "order_key",
        "overdue", "passed_since", "pause_seq", "priority", "private", "queue_key", "resumed", "running", "seq",
        "since", "sized", "state", "turned", "waiters", "warm", "weighed",
    )
    # fmt: on

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        priority: int = 0,
        expected_tokens: float | None = None,
        lender: Place | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.priority = priority
        self.lender = lender
        self.sized = expected_tokens is not None
        self.weighed = False
        self.footprint = expected_tokens or 0.0
        self.private = self.footprint
        self.growth = 0.0
        self.age = 0
        self.ahead = (0.0, 0.0, 0.0)
        self.state = State.QUEUED
        self.seq = 0
        self.pause_seq = 0
        self.running = 0
        self.turned = False
        self.warm = False
        self.resumed = False
        self.waiters: list[asyncio.Future[None]] = []
        self.since = 0.0
        self.passed_since: float | None = None
        self.overdue = False
        self.borrowers = 0
        self.head_start: HeadStart | None = None
        self.queue_key: Key | None = None
        self.order_key: Key | None = None

    def __repr__(self) -> str:
        return f"<Place {self.name!r} {self.state.value}, {self.footprint:.0f} tokens, {self.running} turns running>"

    @property
    def undisputed(self) -> bool:
        """Whether it is active, and nobody waits for it or has borrowed it."""
        return self.state is State.ACTIVE and not (self.waiters or self.borrowers)

    def size_up(self) -> None:
        """Bring the private footprint and the growth up to date with what its kind has learned."""
        if not self.sized:
            self.footprint = self.kind.expected_tokens
        self.private = self.footprint - min(self.footprint, self.kind.shared_prefix)
        known = self.kind.growth.count
        self.growth = self.kind.growth.value if known else GROWTH_PRIOR * self.private

    def look_ahead(self) -> None:
        """Bring up to date what it is expected to hold some turns from now."""
        near, middle, far = self.kind.lives.survival(self.age)
        private, growth = self.private, self.growth
        self.ahead = (
            (private + NEAR * growth) * near,
            (private + MIDDLE * growth) * middle,
            (private + FAR * growth) * far,
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """One agent that waits, and for what.

    Attributes:
        name: The agent's name.
        kind: Its kind.
        state: `queued`: never admitted yet; `paused`: gave its place up at a turn; `held`: one more turn of an
            agent whose other turns are still running.
        waited_s: How long so far. [s]
        footprint: Its size, as far as it is known. [KV tokens]
        reason: What it waits for, in words.
    """

    name: str
    kind: str
    state: str
    waited_s: float
    footprint: float
    reason: str


class WaitingQueue:
    """Who waits for a place: priority first, then overdue, then paused before new.

    New agents, and overdue ones, come in the order in which they began to wait. Of the other paused ones whoever was
    paused last comes first, as from a stack: the cache evicts what was used least recently, so its context is the
    likeliest to be there still. In simulation, nine loads by nine seeds, that came to 1.01 times first come, first
    served.

    Agents without a size of their own weigh what their kind weighs at the moment, so they stand in plain heaps,
    where one entry costs a microsecond and a better estimate costs nothing. The others stand in an ordered set.
    """

    __slots__ = ("_by_kind", "_length", "_sized", "_unsized")

    def __init__(self) -> None:
        self._sized: OrderedSums[Place] = OrderedSums()
        self._unsized: list[tuple[Key, Place]] = []
        self._by_kind: dict[Kind, list[tuple[Key, Place]]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Place]:
        return iter(sorted(self.unordered(), key=_queue_key))

    def unordered(self) -> Iterator[Place]:
        """All who wait, in no order: for thousands that is much faster."""
        yield from (place for key, place in self._unsized if place.queue_key is key)
        yield from self._sized

    def add(self, place: Place) -> None:
        """Let a place wait."""
        paused = place.state is State.PAUSED
        order = (place.pause_seq if place.overdue else -place.pause_seq) if paused else place.seq
        key = (-place.priority, not place.overdue, not paused, order)
        place.queue_key = key
        place.size_up()
        self._length += 1
        if place.sized:
            self._sized.add(key, place, place.private, place.growth)
        else:
            heapq.heappush(self._unsized, (key, place))
            heapq.heappush(self._by_kind.setdefault(place.kind, []), (key, place))

    def remove(self, place: Place) -> None:
        """Let a place wait no longer."""
        key = place.queue_key
        if key is None:
            raise KeyError(place.name)
        place.queue_key = None
        self._length -= 1
        if place.sized:
            self._sized.remove(key)
            return
        _top(self._unsized)
        if _top(self._by_kind[place.kind]) is None:
            del self._by_kind[place.kind]
        # Entries of those who left from the middle stay till they come to the top; without a sweep, a blocked head
        # and agents that time out behind it would fill the memory.
        if len(self._unsized) > 2 * self._length + SWEEP_SLACK:
            self._sweep()

    def head(self) -> Place | None:
        """Who is next."""
        unsized, sized = _top(self._unsized), self._sized.first()
        if unsized is None or sized is None:
            return unsized or sized
        return min(unsized, sized, key=_queue_key)

    def smaller(self, head: Place, tokens: float) -> Iterator[Place]:
        """A few agents behind the head that may fit, in their order.

        Args:
            head: Whom they would pass.
            tokens: Room for a private footprint. [KV tokens]
        """
        found = []
        for kind in itertools.islice(self._by_kind, PASSING_TRIES):
            first = _top(self._by_kind[kind])
            if first is not None and first is not head:
                found.append(first)
        key: Key = (-math.inf,)
        for _ in range(PASSING_TRIES):
            entry = self._sized.next_within(key, tokens)
            if entry is None:
                break
            key, place = entry
            if place is not head:
                found.append(place)
        return iter(sorted(found, key=_queue_key))

    def reweigh(self, kind: Kind) -> None:
        """Take note that agents of this kind weigh another amount than when they began to wait."""
        for place in [place for place in self._sized if place.kind is kind]:
            key = _queue_key(place)
            self._sized.remove(key)
            place.size_up()
            self._sized.add(key, place, place.private, place.growth)

    def _sweep(self) -> None:
        self._unsized = [entry for entry in self._unsized if entry[1].queue_key is entry[0]]
        heapq.heapify(self._unsized)
        self._by_kind = {}
        for entry in sorted(self._unsized):
            self._by_kind.setdefault(entry[1].kind, []).append(entry)


def _queue_key(place: Place) -> Key:
    if place.queue_key is None:
        raise KeyError(place.name)
    return place.queue_key


def _top(heap: list[tuple[Key, Place]]) -> Place | None:
    while heap and heap[0][1].queue_key is not heap[0][0]:
        heapq.heappop(heap)
    return heap[0][1] if heap else None
