"""How fast the server reads and writes, and how much of its time goes into reading."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView

WINDOW_S = 2.0
"""Tokens a second are told from windows as long as this; shorter ones see single steps. [s]"""

HALF_LIFE_S = 600.0
"""The highest rates are believed for this long: what was read while nothing else ran. [s]"""

READING_MEMORY_S = 3.0
"""Time over which the share of reading is a mean: a batch begins with reading alone, and that has to be forgotten soon
after. With 10 s, a batch of 17 s that fits the cache got 0.75 of what it does without a gate, with 3 s 0.92. [s]"""

LEAST_SPARE = 0.05
"""However busy with reading, the server is taken to write a little more if more agents run."""


@dataclass(slots=True)
class Pace:
    """What the server can do, from what it has done.

    Attributes:
        reads: The highest rate of prefill of late, P; 0 while nothing was read. [tokens/s]
        writes: The highest rate of output of late, X. [tokens/s]
        reading: Share φ of the server's time that goes into prefill, 0 to 1: the rate of prefill now over P. 1 until
            it is known.
    """

    reads: float = 0.0
    writes: float = 0.0
    reading: float = 1.0
    _at: float = 0.0

    def see(self, engine: EngineView, now: float) -> None:
        """Take in what was computed within the window."""
        passed = now - self._at
        self._at = now
        faded = 0.5 ** (passed / HALF_LIFE_S)
        self.reads *= faded
        self.writes *= faded
        if engine.window_s < WINDOW_S:
            return
        reads = engine.computed_prompt_tokens / engine.window_s
        self.reads = max(self.reads, reads)
        self.writes = max(self.writes, engine.generation_tokens / engine.window_s)
        if self.reads > 0:
            self.reading += (1 - exp(-passed / READING_MEMORY_S)) * (reads / self.reads - self.reading)

    @property
    def spare(self) -> float:
        """Share 1 - φ of its time in which more agents would write more, at least `LEAST_SPARE`.

        A server that reads all the time writes no more for having more agents: they wait for each other's prompts.
        """
        return max(LEAST_SPARE, 1 - self.reading)
