"""Turns pages into snapshots: counters become differences over the last seconds. Pure: it is told the time."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from concur_agents.engines.snapshot import EngineReading, EngineSnapshot, EngineWindow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_Counter = Literal["queries", "hits", "preemptions", "prompt_tokens", "computed_prompt_tokens", "generation_tokens"]

# `computed_prompt_tokens` is not among them: on some pages it is a difference, which may go down by itself.
_NEVER_FALLING: tuple[_Counter, ...] = (
    "queries",
    "hits",
    "preemptions",
    "prompt_tokens",
    "generation_tokens",
)

# After a silence of this many spans, what happened before it says nothing about now.
_LONGEST_SILENCE_SPANS = 4


class Window:
    """Keeps the pages of the last seconds and says what changed within them.

    Differences are taken against the newest page that is at least `span_s` old; while there is none, against the
    oldest. A counter that goes down means that the server restarted: everything before is dropped.
    The same happens, without counting a restart, after a silence of four spans and when the time goes back.

    Args:
        span_s: How far back differences reach. Polls are 0.25 to 5 s apart, gauges move once in an engine step,
            and a turn lasts seconds: shorter windows often hold no finished prompt, longer ones react late. [s]

    Raises:
        ValueError: If `span_s` is not above 0.
    """

    def __init__(self, span_s: float = 5.0) -> None:
        if not span_s > 0:
            raise ValueError(f"a window of {span_s} s holds nothing: give span_s above 0")
        self._span_s = span_s
        self._pages: deque[tuple[float, dict[str, EngineReading]]] = deque()
        self._last_seen: dict[str, EngineReading] = {}
        self._restarts = 0

    def add(
        self, time: float, readings: Iterable[EngineReading], *, ours_in_flight: int | None = None
    ) -> EngineSnapshot:
        """Takes in one page.

        Args:
            time: When it was read, on a clock that does not go back. [s]
            readings: One reading for each engine on the page.
            ours_in_flight: Requests that the caller knows to be on the server; None if it does not know. With 0,
                gauges that a dead batch left behind are taken as 0.

        Returns:
            What the server said, with differences since the start of the window. An engine that is not on this
            page is not in it; one that is new counts from its first page on.
        """
        page = {reading.engine: reading for reading in readings}
        if any(_fell(self._last_seen.get(engine), reading) for engine, reading in page.items()):
            self._restarts += 1
            self._pages.clear()
            self._last_seen.clear()
        elif self._pages and not 0 <= time - self._pages[-1][0] <= _LONGEST_SILENCE_SPANS * self._span_s:
            self._pages.clear()
        now = [
            _without_stale_gauges(reading, self._last_seen.get(engine), ours_in_flight)
            for engine, reading in page.items()
        ]
        self._last_seen.update(page)
        self._pages.append((time, page))
        while len(self._pages) > 1 and self._pages[1][0] <= time - self._span_s:
            self._pages.popleft()
        return self._snapshot(time, now)

    def _snapshot(self, time: float, now: Sequence[EngineReading]) -> EngineSnapshot:
        pairs = [(self._first(reading.engine), reading) for reading in now]
        usages = [reading.usage for reading in now if reading.usage is not None]
        return EngineSnapshot(
            time=time,
            window_s=time - self._pages[0][0],
            engines=tuple(
                EngineWindow(
                    engine=last.engine,
                    usage=last.usage,
                    hit_rate=_hit_rate([(first, last)]),
                    running=last.running,
                    waiting=last.waiting,
                )
                for first, last in pairs
            ),
            usage=max(usages, default=None),
            hit_rate=_hit_rate(pairs),
            running=_sum(reading.running for reading in now),
            waiting=_sum(reading.waiting for reading in now),
            sleeping=any(reading.sleeping for reading in now),
            capacity_tokens=_sum(reading.capacity_tokens for reading in now),
            block_size=next((reading.block_size for reading in now if reading.block_size), None),
            preemptions=_grown(pairs, "preemptions"),
            prompt_tokens=_grown(pairs, "prompt_tokens"),
            computed_prompt_tokens=_grown(pairs, "computed_prompt_tokens"),
            generation_tokens=_grown(pairs, "generation_tokens"),
            restarts=self._restarts,
        )

    def _first(self, engine: str) -> EngineReading:
        return next(page[engine] for _, page in self._pages if engine in page)


def _fell(before: EngineReading | None, now: EngineReading) -> bool:
    if before is None:
        return False
    pairs = ((getattr(before, counter), getattr(now, counter)) for counter in _NEVER_FALLING)
    return any(old is not None and new is not None and new < old for old, new in pairs)


def _without_stale_gauges(
    reading: EngineReading, before: EngineReading | None, ours_in_flight: int | None
) -> EngineReading:
    """Takes gauges as 0 that belong to no running request.

    vLLM sets its gauges at the end of an engine step. When all requests are aborted at once there is no further
    step, and the gauges stand at what the dead batch had, 99 % and more (vllm#29928, #22545), until somebody
    sends a request: which a gate that believes them would never do. So if nothing of ours is on the server and
    nothing at all changed since the page before, no step was made and the gauges speak of nobody.
    """
    counts_tokens = reading.prompt_tokens is not None or reading.generation_tokens is not None
    if ours_in_flight != 0 or not counts_tokens or reading != before:
        return reading
    return replace(
        reading,
        usage=None if reading.usage is None else 0.0,
        running=None if reading.running is None else 0.0,
        waiting=None if reading.waiting is None else 0.0,
        waiting_for_capacity=None if reading.waiting_for_capacity is None else 0.0,
    )


def _grown(pairs: Iterable[tuple[EngineReading, EngineReading]], counter: _Counter) -> float:
    """How much a counter grew from the first to the last reading of each engine, summed; 0 where unsaid."""
    total = 0.0
    for first, last in pairs:
        old, new = getattr(first, counter), getattr(last, counter)
        if old is not None and new is not None:
            total += max(0.0, new - old)
    return total


def _hit_rate(pairs: Sequence[tuple[EngineReading, EngineReading]]) -> float | None:
    queries = _grown(pairs, "queries")
    if queries > 0:
        return min(1.0, _grown(pairs, "hits") / queries)
    # vLLM ≤ 0.8 has only a gauge of its own, which stands still while nothing is read: no evidence then.
    gauges = [
        last.hit_rate_gauge
        for first, last in pairs
        if last.queries is None and last.hit_rate_gauge is not None and _grown([(first, last)], "prompt_tokens")
    ]
    return sum(gauges) / len(gauges) if gauges else None


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
