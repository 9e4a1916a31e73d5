"""What is kept of a long list, so that the results of thousands of agents stay a file of a reasonable size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from concur_agents.control import Budget
    from concur_agents.replay.results import AgentResult
    from concur_agents.stats import Decision

AGENTS = 1000
"""Agents kept of a run: some 220 bytes each, and twenty of them above the 98th percentile."""
DECISIONS = 100
"""Decisions kept of a run: more than people read."""


def spread_by_size(agents: Sequence[AgentResult], most: int) -> tuple[AgentResult, ...]:
    """At most so many of the agents, evenly from the smallest to the largest, in the order given.

    What is told of the chosen by their size is then told of all, the smallest and the largest included.

    Args:
        agents: All of them.
        most: At least 2.
    """
    if len(agents) <= most:
        return tuple(agents)
    by_size = sorted(range(len(agents)), key=lambda place: agents[place].size_tokens)
    chosen = {by_size[round(number * (len(agents) - 1) / (most - 1))] for number in range(most)}
    return tuple(agents[place] for place in sorted(chosen))


def telling(decisions: Sequence[Decision], most: int) -> tuple[Decision, ...]:
    """At most so many of the decisions, in their order: the first, the last, and the largest changes between them.

    Args:
        decisions: All of them.
        most: At least 2.
    """
    if len(decisions) <= most:
        return tuple(decisions)
    between = range(1, len(decisions) - 1)
    largest = sorted(between, key=lambda place: -_change(decisions[place]))[: most - 2]
    return tuple(decisions[place] for place in (0, *sorted(largest), len(decisions) - 1))


def _change(decision: Decision) -> float:
    """How much a budget changed: the larger of its two lines' changes, a halving as much as a doubling."""
    before, after = decision.previous, decision.budget
    return max(_factor(before.agents if before else None, after.agents), _tokens(before, after))


def _tokens(before: Budget | None, after: Budget) -> float:
    return _factor(before.tokens if before else None, after.tokens)


def _factor(before: float | None, after: float | None) -> float:
    if before is None or after is None:
        return 0.0 if before is after else math.inf  # a limit that comes or goes changes most
    return abs(math.log(after / before))
