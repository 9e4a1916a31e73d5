"""What holds while the server's metrics are gone, or the server rests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

from concur_agents.control.base import Budget
from concur_agents.control.checks import check_between, check_whole
from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import PoolView

CAPACITY_SHARE = 0.9
"""What token counts alone may fill of the last known capacity. A tenth is left for what they cannot see: the
output of turns in flight, half-filled blocks, and requests of others."""

PAUSE_TURNS = 1.0
"""Pause when the next turn of everybody no longer fits."""

ADMIT_TURNS = 3.0
"""Admit only where there is room for two turns more than that. Without a gap agents are paused and resumed in a
churn: an admission that is soon paused costs one more reading of its context, which takes 1 to 4 turns to earn."""


def frozen(budget: Budget, cause: str) -> Budget:
    """The same limits, with the reason why they do not move.

    For a server that sleeps or is paused, while its metrics are there: it serves nobody, so nothing it says
    means anything, and on waking it says the truth at once. So this may last, without any grace.

    Args:
        budget: The budget in force.
        cause: Why, for people: "the server sleeps".
    """
    return replace(budget, reason=f"{cause}: budget frozen")


@dataclass(kw_only=True, eq=False)
class Fallback:
    """Stands in for the controller while the metrics are out. A pure state machine, told of every poll.

    At once the budget freezes. After `grace_s` the gate goes on by token counts against the last known
    capacity, where agents report tokens; else it falls to `floor_agents`. What held when the outage began is
    never exceeded, in agents or in tokens: nobody knows what the server would say to it. The first good poll
    ends it.

    Attributes:
        grace_s: How long the frozen budget holds before the fallback. [s]
        floor_agents: How many agents may be active with neither metrics nor token counts. Ours: the first
            window of `Aimd` and `Pi`, what the gate also starts with when it knows nothing. [agents]

    Raises:
        ValueError: If a setting is out of its range.
    """

    grace_s: float = 30.0
    floor_agents: int = 8
    _since: float | None = field(init=False, repr=False, default=None)
    _ceiling: Budget | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        check_between("grace_s", self.grace_s, 0, inf)
        check_whole("floor_agents", self.floor_agents)

    @property
    def failing(self) -> bool:
        """Whether the last poll that was told failed."""
        return self._since is not None

    def ok(self, now: float) -> None:  # noqa: ARG002 - the same face as `failed`
        """A poll was answered: whatever outage there was is over.

        Args:
            now: Seconds on a clock that never goes back.
        """
        self._since = self._ceiling = None

    def failed(self, now: float) -> None:
        """A poll was not answered. The first of a row begins the outage, the others change nothing.

        Args:
            now: Seconds on a clock that never goes back.
        """
        if self._since is None:
            self._since = now

    def decide(
        self, pool: PoolView, last_budget: Budget, capacity_tokens: float | None, now: float, cause: str
    ) -> Budget:
        """The budget while the outage lasts. Begins one if no failure was told.

        Args:
            pool: The agents at the gate, in aggregates.
            last_budget: The budget in force. What it is at the first call of an outage is the ceiling of all
                that follow.
            capacity_tokens: The last known capacity of the server; None if it never told. [KV tokens]
            now: Seconds on a clock that never goes back.
            cause: What is wrong, for people: "metrics gone".
        """
        self.failed(now)
        if self._ceiling is None:
            self._ceiling = last_budget
        ceiling, out_s = self._ceiling, now - (self._since if self._since is not None else now)
        cause = f"{cause} for {out_s:.0f} s"
        if out_s < self.grace_s:
            return frozen(ceiling, cause)
        capacity = known(capacity_tokens)
        reported = pool.weighed > 0 or pool.prompt_tokens > 0
        if reported and capacity is not None and capacity > 0:
            tokens = min(CAPACITY_SHARE * capacity, inf if ceiling.tokens is None else ceiling.tokens)
            return Budget(
                agents=ceiling.agents,
                tokens=tokens,
                pause_turns=max(PAUSE_TURNS, ceiling.pause_turns),
                admit_turns=max(ADMIT_TURNS, ceiling.admit_turns),
                ahead_turns=ceiling.ahead_turns,
                reason=f"{cause}: on by token counts, {tokens:,.0f} of the {capacity:,.0f} tokens last known",
            )
        agents = min(self.floor_agents, self.floor_agents if ceiling.agents is None else ceiling.agents)
        missing = "its capacity is not known" if reported else "no agent reports tokens"
        return replace(ceiling, agents=agents, reason=f"{cause} and {missing}: {agents} agents at most")
