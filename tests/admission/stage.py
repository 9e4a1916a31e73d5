"""An admission on a clock that the test sets, with a few words to drive it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from admission.naive import Watched

from concur_agents.control.base import Budget
from concur_agents.kind import Kind, Totals
from concur_agents.place import Place, State

if TYPE_CHECKING:
    from concur_agents.head_start import HeadStart

FOR_EVER = 1e9


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[None]) -> None:
    """Await a task that is expected to have ended by now."""
    await settle()
    assert task.done(), f"{task} was expected to have ended"
    await task


class Ahead:
    """A turn that a thread has begun by a head start, and whether admission counts it by now."""

    def __init__(self, admission: Watched, place: Place, start: HeadStart) -> None:
        self.counted = False
        self._admission = admission
        self._place = place
        self._start = start

    def count(self) -> None:
        assert not self.counted
        self.counted = True
        self._admission.count_turn(self._place)

    def tell(self) -> None:
        """The thread's letter has come to the loop."""
        if self._place.head_start is self._start:
            self._place.head_start = None
        if not self.counted:
            self.count()


class Stage:
    """One admission; `agents`, `tokens` and so on are its first budget."""

    def __init__(self, *, passing_limit_s: float = FOR_EVER, longest_pause_s: float = FOR_EVER, **budget) -> None:
        self.now = 0.0
        self.totals = Totals()
        self.admission = Watched(
            lambda: self.now, self.totals, passing_limit_s=passing_limit_s, longest_pause_s=longest_pause_s
        )
        self.kinds: dict[str, Kind] = {}
        if budget:
            self.resize(**budget)

    def resize(self, **budget) -> None:
        self.admission.resize(Budget(**budget))

    def kind(self, name: str) -> Kind:
        return self.kinds.setdefault(name, Kind(name))

    def place(
        self,
        name: str = "agent",
        *,
        kind: str = "some",
        priority: int = 0,
        tokens: float | None = None,
        inside: Place | None = None,
    ) -> Place:
        return Place(name, self.kind(kind), priority=priority, expected_tokens=tokens, lender=inside)

    async def ask(self, name: str = "agent", **options) -> tuple[Place, asyncio.Task[None]]:
        """A place that asks for admission, and the task that waits for it."""
        place = self.place(name, **options)
        task = asyncio.create_task(self.admission.acquire(place))
        task.add_done_callback(_seen)
        await settle()
        self.admission.check()
        return place, task

    async def waits(self, name: str = "agent", **options) -> Place:
        """A place that asks for admission and has to wait."""
        place, task = await self.ask(name, **options)
        assert not task.done(), f"{name} was expected to wait"
        return place

    async def enter(self, name: str = "agent", **options) -> Place:
        """A place that is admitted at once."""
        place, task = await self.ask(name, **options)
        assert task.done(), f"{name} was expected to enter: {self.admission}"
        await task
        return place

    async def turning(self, name: str = "agent", **options) -> Place:
        """A place that is admitted at once and has a turn in flight."""
        place = await self.enter(name, **options)
        await self.begin(place)
        return place

    async def begin(self, place: Place) -> None:
        """Begin a turn that may begin at once."""
        assert (await self.try_begin(place)).done(), f"the turn of {place} was expected to begin: {self.admission}"

    async def try_begin(self, place: Place) -> asyncio.Task[None]:
        """Ask for a turn; the task is done once it has begun."""
        task = asyncio.create_task(self.admission.begin_turn(place))
        task.add_done_callback(_seen)
        await settle()
        self.admission.check()
        return task

    def end(self, place: Place, tokens: float | None = None) -> None:
        """End a turn whose context has become so large."""
        if tokens is not None:
            self.admission.resize_place(place, tokens, weighed=True)
        self.admission.end_turn(place)
        self.admission.check()

    def finish(self, *places: Place) -> None:
        for place in places:
            self.admission.finish(place)
            self.admission.check()

    def states(self, *places: Place) -> list[str]:
        return [place.state.value for place in places]

    def active(self) -> list[str]:
        return [place.name for place in self.admission.those(State.ACTIVE)]


def _seen(task: asyncio.Task[None]) -> None:
    # A test awaits only those whose error it is about; asyncio is not to complain of the others.
    if not task.cancelled():
        task.exception()
