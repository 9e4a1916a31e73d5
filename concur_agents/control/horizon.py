"""How many turns ahead it is worth to look before an agent is let in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concur_agents.control.base import PoolView
    from concur_agents.control.pace import Pace

LONGEST_HORIZON_TURNS = 8.0
"""No further ahead is looked than this, in turns of each agent. It matters at the beginning of a batch, when nobody
has ended yet and so nobody seems ever to end: without it nobody would enter. Eight and twelve turns came to the same on
the simulated loads under pressure, and twelve to 0.92 of no gate where 64 agents, over after four turns, would have
filled 0.4 of the cache."""


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
