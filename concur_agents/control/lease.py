"""How long a place is held for an agent that waits for a tool."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView
    from concur_agents.control.pace import Pace

LONGEST_LEASE_S = 3600.0
"""A lease is no longer than this, however little was read of late. [s]"""

USAGE_MEMORY_S = 10.0
"""Usage is a mean over this time. A single look at a few agents often finds all of them in their tools and the engine
empty; taken for the truth it ends every lease at once, which cost 40 % on a small simulated load. [s]"""


@dataclass(slots=True)
class Lease:
    """The ski-rental rule with what the server shows.

    Holding the place of an idle agent of c tokens keeps the share c / (U · capacity) of what runs from running beside
    it, which is worth the share 1 - φ of the server's time that does not go into reading anyhow (`Pace.spare`); giving
    it away costs reading c tokens anew, c / P seconds of the server. The two are even after::

        τ = U · capacity / (P · (1 - φ))

    seconds, whatever c. Who holds for τ and then gives away never pays more than twice what the best choice in
    hindsight costs (Karlin et al., "Competitive snoopy caching", 1988).
    """

    _usage: float | None = None
    _at: float = 0.0

    def see(self, engine: EngineView, now: float) -> None:
        """Take in the usage."""
        passed = now - self._at
        self._at = now
        usage = known(engine.usage)
        if usage is None:
            return
        if self._usage is None:
            self._usage = max(0.0, usage)
        else:
            self._usage += (1 - exp(-passed / USAGE_MEMORY_S)) * (max(0.0, usage) - self._usage)

    def seconds(self, capacity: float, pace: Pace) -> float | None:
        """τ for a cache of so many tokens; None, without end, while nothing is known. [s]"""
        if self._usage is None or not pace.reads:
            return None
        return min(LONGEST_LEASE_S, self._usage * capacity / (pace.reads * pace.spare))
