"""How long a place is held for an agent that waits for a tool."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView

LONGEST_LEASE_S = 3600.0
"""A lease is no longer than this, however little was read of late. [s]"""

PREFILL_WINDOW_S = 2.0
"""Prompt tokens a second are told from windows as long as this; shorter ones see single steps. [s]"""

PREFILL_HALF_LIFE_S = 600.0
"""The highest rate of prefill is believed for this long: what was read when nothing else ran. [s]"""

USAGE_MEMORY_S = 10.0
"""Usage is a mean over this time. A single look at a few agents often finds all of them in their tools and the engine
empty; taken for the truth it ends every lease at once, which cost 40 % on a small simulated load. [s]"""


@dataclass(slots=True)
class Lease:
    """The ski-rental rule with what the server shows.

    Holding the place of an idle agent of c tokens keeps the share c / (U · capacity) of what runs from running beside
    it; giving it away costs reading c tokens anew, c / P seconds of the engine. The two are even after::

        τ = U · capacity / P

    seconds, whatever c: the time in which the running contexts could be read anew. Who holds for τ and then gives away
    never pays more than twice what the best choice in hindsight costs (Karlin et al., "Competitive snoopy caching",
    1988).
    """

    _usage: float | None = None
    _prefill: float = 0.0
    _at: float = 0.0

    def see(self, engine: EngineView, now: float) -> None:
        """Take in the usage and the rate of prefill."""
        passed = now - self._at
        self._at = now
        self._prefill *= 0.5 ** (passed / PREFILL_HALF_LIFE_S)
        if engine.window_s >= PREFILL_WINDOW_S:
            self._prefill = max(self._prefill, engine.computed_prompt_tokens / engine.window_s)
        usage = known(engine.usage)
        if usage is None:
            return
        if self._usage is None:
            self._usage = max(0.0, usage)
        else:
            self._usage += (1 - exp(-passed / USAGE_MEMORY_S)) * (max(0.0, usage) - self._usage)

    def seconds(self, capacity: float) -> float | None:
        """τ for a cache of so many tokens; None, without end, while nothing is known. [s]"""
        if self._usage is None or not self._prefill:
            return None
        return min(LONGEST_LEASE_S, self._usage * capacity / self._prefill)
