"""How the working set will develop: it grows with every turn, and shrinks as agents end."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log1p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concur_agents.control.base import PoolView
    from concur_agents.control.pace import Pace

LONGEST_HORIZON_TURNS = 12.0
"""No further ahead is looked than this, in turns of each agent. It matters at the beginning of a batch, when nobody
has ended yet and so nobody seems ever to end: without it nobody would enter. Six turns came to 0.995 of the best caps
on small simulated loads, twelve to 1.004, a thousand to 1.012, but those would hold long-lived agents back."""

MEMORY_TURNS = 512
"""Turns after which what was seen of ends is forgotten: a few dozen agents' lives, of which single ones say little."""

MOST_ENDING = 0.9
"""However short agents live, no more than this share of the working set is expected to end in a turn."""


def horizon_turns(pool: PoolView, pace: Pace) -> float:
    """How many turns an agent has to run so that it was worth letting in, should it be paused after them.

    A pause costs one reading of its context of c tokens, c / P seconds of the server, in which it would write X · c / P
    tokens. A turn writes o tokens, of which the share 1 - φ comes on top of what the others write (`Pace.spare`)::

        m = X · c / (P · o · (1 - φ))

    Args:
        pool: For c and o, as means.
        pace: For P, X and φ.

    Returns:
        m, or `LONGEST_HORIZON_TURNS` if that is less or nothing is known. On simulated loads of 8 to 112 agents on
        H100s, m was 7 to 60, so mostly the latter; on a batch of short contexts it is 1 to 5.
    """
    if not (pool.active and pool.output_tokens and pace.reads):
        return LONGEST_HORIZON_TURNS
    context = pool.working_set_tokens / pool.active
    output = pool.output_tokens / pool.turns
    return min(LONGEST_HORIZON_TURNS, pace.writes * context / (pace.reads * output * pace.spare))


@dataclass(slots=True)
class Turnover:
    """Learns what share of the working set ends with each turn, and looks ahead with it.

    If every agent takes a turn, and grows by its expected growth, while a share h of the working set ends, then Σ of
    the footprints is after k turns of each::

        W(k) = (F + k · G) · (1 - h)^k

    with F the sum now and G the expected growth of a turn of all. It is highest at k* = -1 / ln(1 - h) - F / G. Early
    in a batch contexts are small and k* is far ahead, so few agents may enter for the room there is; later, what ends
    makes room for what grows, and the working set may fill the cache.
    """

    _ended: float = 0.0
    _exposed: float = 0.0
    _ended_before: float = 0.0
    _exposed_before: float = 0.0
    _turns_before: int = 0

    def see(self, pool: PoolView) -> None:
        """Take in what ended since the last call."""
        kept = (1 - 1 / MEMORY_TURNS) ** max(0, pool.turns - self._turns_before)
        self._ended = kept * self._ended + (pool.ended_tokens - self._ended_before)
        self._exposed = kept * self._exposed + (pool.turn_tokens - self._exposed_before)
        self._turns_before = pool.turns
        self._ended_before, self._exposed_before = pool.ended_tokens, pool.turn_tokens

    @property
    def ending(self) -> float:
        """Share of the working set that ends with a turn of each agent, 0 to `MOST_ENDING`; 0 while nobody has."""
        return min(MOST_ENDING, self._ended / self._exposed) if self._exposed > 0 else 0.0

    def reserve_turns(self, footprints: float, growth: float, horizon: float) -> float:
        """Turns of growth to keep free, so that the working set fits at its highest.

        Args:
            footprints: F, Σ of the footprints of the active agents. [KV tokens]
            growth: G, Σ of their expected growth a turn. [KV tokens]
            horizon: How far ahead is looked. [turns]
        """
        if growth <= 0 or not self.ending:
            return horizon
        rate = -log1p(-self.ending)  # log(1 - h) is 0 where h has almost been forgotten
        peak_at = max(0.0, min(horizon, 1 / rate - footprints / growth))
        highest = (footprints + peak_at * growth) * exp(-rate * peak_at)
        return max(0.0, (highest - footprints) / growth)
