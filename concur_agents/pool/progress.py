"""How far a batch is, on stderr: a bar on a terminal where rich is installed, lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from concur_agents.gate import ConcurGate

LINE_EVERY_S = 10.0
"""A log of an hour's run should still be readable. [s]"""
BAR_EVERY_S = 1.0
"""How often the bar's figures change; more often they could not be read. [s]"""
RATE_OVER_S = 10.0
"""Tokens are counted when a turn ends, so over less time than a few turns the rate would be 0 or huge. [s]"""


class _Display(Protocol):
    every_s: float

    def show(self, done: int, total: int | None, figures: str) -> None:
        """Show the state."""

    def close(self) -> None:
        """Show nothing more."""


class Progress:
    """Shows how far a batch is, from now until it is closed, by the clock of the running event loop.

    Args:
        gate: Whose agents they are. The figures beside the number of ended ones are of the whole gate.
        total: How many agents there will be; None if nobody knows.
    """

    def __init__(self, gate: ConcurGate, total: int | None) -> None:
        self._gate = gate
        self._total = total
        self._done = 0
        self._loop = asyncio.get_running_loop()
        self._samples: deque[tuple[float, int]] = deque()
        self._display = _make_display()
        self._timer: asyncio.TimerHandle | None = None
        self._tick()

    def watch(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Count these tasks as they end, and close after the last."""
        for task in tasks:
            task.add_done_callback(self._on_end)

    def step(self) -> None:
        """One more is done."""
        self._done += 1

    def close(self) -> None:
        """Show the last state; may be called again."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        with contextlib.suppress(OSError, ValueError):
            self._show()
            self._display.close()

    def _on_end(self, _: asyncio.Task[Any]) -> None:
        self.step()
        if self._done == self._total:
            self.close()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._display.every_s, self._tick)
        with contextlib.suppress(OSError, ValueError):  # stderr is closed: nobody looks, the batch goes on
            self._show()

    def _show(self) -> None:
        self._display.show(self._done, self._total, self._figures())

    def _figures(self) -> str:
        stats = self._gate.stats()
        now = self._loop.time()
        samples = self._samples
        samples.append((now, stats.output_tokens))
        while len(samples) > 2 and samples[1][0] <= now - RATE_OVER_S:
            samples.popleft()
        (began, before), elapsed = samples[0], now - samples[0][0]
        rate = (stats.output_tokens - before) / elapsed if elapsed > 0 and began < now else 0.0
        hit_rate = "–" if stats.hit_rate is None else f"{stats.hit_rate:.2f}"
        return f"{stats.active} active {stats.paused} paused {stats.queued} waiting · hit {hit_rate} · {rate:.0f} tok/s"


class _Lines:
    every_s = LINE_EVERY_S

    def show(self, done: int, total: int | None, figures: str) -> None:
        of = f"/{total}" if total is not None else ""
        if sys.stderr is not None:  # as in a program without a console
            sys.stderr.write(f"concur: {done}{of} agents · {figures}\n")
            sys.stderr.flush()

    def close(self) -> None:
        pass


def _make_display() -> _Display:
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return _Lines()
    try:
        from .bar import Bar  # noqa: PLC0415  an extra
    except ImportError:
        return _Lines()
    return Bar(BAR_EVERY_S)
