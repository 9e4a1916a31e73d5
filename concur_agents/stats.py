"""What the gate says of itself: its state now, and why the budget changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .control.base import Budget, PoolView


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of the budget, with the numbers it was made of.

    Attributes:
        time: On the gate's clock. [s]
        budget: What may be active from then on; its `reason` says why.
        previous: What was allowed before; None at the first decision.
        enforced: False in observe mode, where nobody is held.
        pool: The agents at that moment.
        usage: KV usage of the fullest engine, 0 to 1; None while unknown.
        hit_rate: Prefix hit rate in the window; None without evidence.
    """

    time: float
    budget: Budget
    previous: Budget | None
    enforced: bool
    pool: PoolView
    usage: float | None
    hit_rate: float | None

    def __str__(self) -> str:
        return f"budget {limits(self.previous)} → {limits(self.budget)}: {self.budget.reason or 'no reason given'}"


@dataclass(frozen=True, slots=True)
class GateStats:
    """The gate at one moment.

    Attributes:
        controller: Which controller decides.
        budget: What may be active; None before the first decision.
        active: Agents that hold a place.
        running: Agents with a turn in flight, active ones and ones whose place is lent meanwhile.
        paused: Agents that gave their place up and wait for another.
        queued: Agents that were never admitted yet.
        finished: Agents that are over, since the gate was made.
        working_set_tokens: Σ of the footprints of the active agents. [KV tokens]
        capacity_tokens: KV tokens that fit on the server; None while unknown.
        usage: KV usage of the fullest engine, 0 to 1; None while unknown.
        hit_rate: Prefix hit rate in the last window; None without evidence.
        recompute_ratio: Share of reusable tokens that were read again all the same, since the gate was made; None
            until turns have reported cached tokens.
        turns: Turns ended, since the gate was made.
        prompt_tokens: Prompt tokens reported, since the gate was made.
        output_tokens: Output tokens reported, since the gate was made.
        cached_tokens: Prompt tokens that the server had cached, since the gate was made.
        pauses: Times that an agent was paused, since the gate was made.
        longest_wait_s: Longest wait so far, the present ones included. [s]
        held: Whether `gate.hold()` keeps turns from beginning.
        metrics_age_s: Age of the last metrics page; None before the first. [s]
        metrics_error: Why the last look at the metrics failed; None if it did not.
    """

    controller: str
    budget: Budget | None
    active: int
    running: int
    paused: int
    queued: int
    finished: int
    working_set_tokens: float
    capacity_tokens: float | None
    usage: float | None
    hit_rate: float | None
    recompute_ratio: float | None
    turns: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    pauses: int
    longest_wait_s: float
    held: bool
    metrics_age_s: float | None
    metrics_error: str | None

    def __str__(self) -> str:
        room = f" of {self.capacity_tokens:,.0f}" if self.capacity_tokens is not None else ""
        shares = (
            ("KV usage", self.usage),
            ("hit rate", self.hit_rate),
            ("recomputed", self.recompute_ratio),
        )
        agents = (
            f"{self.active} active ({self.running} in a turn), {self.paused} paused, {self.queued} queued, "
            f"{self.finished} finished"
        )
        lines = [
            f"{self.controller}, {limits(self.budget)}{', held' if self.held else ''}",
            f"agents   {agents}",
            f"tokens   {self.working_set_tokens:,.0f}{room} in the working set",
            f"server   {', '.join(f'{name} {_percent(share)}' for name, share in shares)}",
            (
                f"so far   {self.turns:,} turns, {self.output_tokens:,} output tokens, {self.pauses:,} pauses, "
                f"longest wait {self.longest_wait_s:.1f} s"
            ),
        ]
        if self.metrics_error is not None:
            lines.append(f"metrics  {self.metrics_error}")
        return "\n".join(lines)


def limits(budget: Budget | None) -> str:
    """A budget in a few words, such as `8 agents, 14,000 tokens`."""
    if budget is None:
        return "undecided"
    parts = []
    if budget.agents is not None:
        parts.append(f"{budget.agents} agent{'s' * (budget.agents != 1)}")
    if budget.tokens is not None:
        parts.append(f"{budget.tokens:,.0f} tokens")
    return ", ".join(parts) or "no limit"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"
