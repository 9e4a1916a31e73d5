"""`with gate.dashboard():` a live view of a gate and its server in the terminal."""

from __future__ import annotations

import heapq
import logging
import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Self

from concur_agents.engines.page import metrics_url, shown_url
from concur_agents.errors import WrongLoop
from concur_agents.sync.handover import do, running_loop

from .live.gate_view import LISTED, GateShown, Trends, gate_line, gate_page, longest_wait
from .live.recent import Recent
from .live.screen import open_screen
from .live.sparks import span

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from concur_agents.engines import EngineSnapshot
    from concur_agents.gate import ConcurGate
    from concur_agents.stats import GateStats

    from .live.page import Page
    from .live.screen import Screen

log = logging.getLogger("concur_agents")

LOOK_EVERY_S = 1.0
"""Between two values of a spark line. [s]"""
OF_LATE_S = 30.0
"""Turns tell their tokens when they end: over less time than some of them, what they told would jump. [s]"""
LARGEST_SHARE = 0.02
"""Of the event loop's time that the view may take: with ten thousands of waiting agents it is painted less often."""
STALE_POLLS = 3
"""So many polls without a page, and what the server said is not of now."""


class _Told(NamedTuple):
    """What the agents had told at a moment."""

    time: float
    output_tokens: int
    reusable_tokens: int
    recomputed_tokens: int


class _Shown(NamedTuple):
    gate: GateShown

    def page(self, width: int, height: int) -> Page:
        return gate_page(self.gate, width, height)

    def lines(self) -> Sequence[tuple[str, str]]:
        return [(gate_line(self.gate), longest_wait(self.gate))]


class Dashboard:
    """Shows a gate and its server while its context is open, on stderr.

    It lives on the event loop that it is entered on, which has to be the gate's; entered in a thread without one, on
    that of `gate.sync`.

    On a terminal it is painted four times a second below what the program prints and logs. Elsewhere it is a line
    every ten seconds, if anything has changed.

    Args:
        gate: What is shown.
        stream: Where; `sys.stderr`, as it is when the context is entered, if not given.
    """

    def __init__(self, gate: ConcurGate, *, stream: TextIO | None = None) -> None:
        self._gate = gate
        self._stream = stream
        self._title = _title(gate)
        self._active, self._waiting, self._usage = Recent(), Recent(), Recent()
        self._hit_rate, self._recomputed, self._tokens_per_s = Recent(), Recent(), Recent()
        self._told: deque[_Told] = deque()
        self._looked_at = -LOOK_EVERY_S
        self._began = 0.0
        self._failed = False
        self._screen: Screen | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Begin to show it.

        Raises:
            RuntimeError: If it is shown already.
        """
        if self._screen is not None:
            raise RuntimeError("this dashboard is shown already: make another with gate.dashboard()")
        self._loop = running_loop() or self._gate.sync.loop()
        self._began = self._loop.time()
        self._screen = open_screen(self._stream or sys.stderr)
        try:
            do(self._loop, self._tick)
        except BaseException:  # Ctrl-C, in a thread that waits for the loop
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        screen, self._screen = self._screen, None
        if screen is None:
            return

        def stop() -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._guarded(lambda: screen.show(_Shown(self.look())))

        try:
            do(self._loop, stop)
        finally:
            self._guarded(screen.close)

    def look(self) -> GateShown:
        """What is shown at this moment.

        Raises:
            WrongLoop: If the gate is used on another event loop than the one that this is shown on.
        """
        gate, now = self._gate, self._loop.time()
        if gate._loop not in {None, self._loop}:  # noqa: SLF001  its state may be looked at there only
            raise WrongLoop(
                "the gate is used on another event loop than its dashboard: enter `with gate.dashboard():` inside the "
                "coroutine that asyncio.run runs"
            )
        stats = gate.stats()
        server = self._server(stats)
        rate, recomputed = self._rates(now)
        if server is not None and server.window_s > 0:
            rate = server.generation_tokens / server.window_s
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._active.add(now, stats.active)
            self._waiting.add(now, stats.paused + stats.queued)
            self._usage.add(now, server.usage if server else None)
            self._hit_rate.add(now, server.hit_rate if server else None)
            self._recomputed.add(now, recomputed)
            self._tokens_per_s.add(now, rate)
        waiting = gate.waiting()
        return GateShown(
            title=self._title,
            watched_s=now - self._began,
            stats=stats,
            server=server,
            decisions=tuple((gate.now() - one.time, one) for one in islice(reversed(gate.history()), LISTED)),
            waiting=tuple(heapq.nlargest(LISTED, waiting, key=lambda one: one.waited_s)),
            head=next((one for one in waiting if one.state != "held"), None),
            recomputed=recomputed,
            tokens_per_s=rate,
            trends=Trends(
                active=self._active.means(now),
                waiting=self._waiting.means(now),
                usage=self._usage.means(now),
                hit_rate=self._hit_rate.means(now),
                recomputed=self._recomputed.means(now),
                tokens_per_s=self._tokens_per_s.means(now),
            ),
            notes=tuple(_notes(stats, server)),
        )

    def _tick(self) -> None:
        screen = self._screen
        if screen is None or screen.gone:
            return
        began = self._loop.time()
        self._guarded(lambda: screen.show(_Shown(self.look())))
        took = self._loop.time() - began
        self._timer = self._loop.call_later(max(screen.every_s, took / LARGEST_SHARE), self._tick)

    def _guarded(self, what: Callable[[], None]) -> None:
        """Do it; should it fail, the agents are not to feel it."""
        try:
            what()
        except Exception:
            if not self._failed:
                self._failed = True
                log.exception("the dashboard could not be shown; its further failures are not logged")

    def _server(self, stats: GateStats) -> EngineSnapshot | None:
        """What the server said last, unless that is long ago: a gate without agents does not ask it."""
        age = stats.metrics_age_s
        if age is None or age > STALE_POLLS * self._gate.config.poll_interval_s:
            return None
        return self._gate.snapshot

    def _rates(self, now: float) -> tuple[float | None, float | None]:
        """Output tokens a second and the recompute ratio of late, by what agents told."""
        totals, told = self._gate.totals, self._told
        last = _Told(now, totals.output_tokens, totals.reusable_tokens, totals.recomputed_tokens)
        if not told or now - told[-1].time >= LOOK_EVERY_S:
            told.append(last)
        while len(told) > 2 and told[1].time <= now - OF_LATE_S:
            told.popleft()
        first = told[0]
        elapsed, reusable = now - first.time, last.reusable_tokens - first.reusable_tokens
        return (
            (last.output_tokens - first.output_tokens) / elapsed if elapsed > 0 and totals.turns else None,
            (last.recomputed_tokens - first.recomputed_tokens) / reusable if reusable > 0 else None,
        )


def _title(gate: ConcurGate) -> str:
    config = gate.config
    name = gate.controller.name
    if config.disabled:
        name = "disabled, holds nobody"
    elif config.mode == "observe":
        name += ", observes, holds nobody"
    return name if config.url is None else f"{name} at {shown_url(metrics_url(config.url)).removesuffix('/metrics')}"


def _notes(stats: GateStats, server: EngineSnapshot | None) -> Iterator[str]:
    age = stats.metrics_age_s
    if stats.metrics_error is not None:
        yield f"no metrics{'' if age is None else f' for {span(age)}'}: {stats.metrics_error}"
    elif age is not None and server is None and stats.active + stats.paused + stats.queued:
        yield f"nothing from the server for {span(age)}"
    if server is not None and server.sleeping:
        yield "the server sleeps"
    if stats.held:
        yield "held: no turn begins"
