"""What a controller sees and what it answers. Pure: no I/O, no clock, no randomness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be active at the gate from now on. None means no limit.

    Attributes:
        agents: How many agents may be active, at least 1.
        tokens: KV tokens that the working set may fill, above 0.
        pause_turns: An agent that begins a turn is paused while
            Σ (footprint + pause_turns · growth) > tokens.
        admit_turns: The head of the queue enters while Σ (footprint + admit_turns · growth) ≤ tokens.
        ahead_turns: And while the working set that is to be expected after so many turns of each agent, and after
            fewer, is no larger: agents grow, and some end (`Outlook`).
        tool_lease_s: How long a place is held for an agent that waits for a tool; then a waiter that does not fit
            otherwise may take it. [s]
        reason: Why, in one clause with the numbers that decided it; shown to people.

    Raises:
        ValueError: If a limit would let nobody run, or a reserve is negative.
    """

    agents: int | None = None
    tokens: float | None = None
    pause_turns: float = 0.0
    admit_turns: float = 0.0
    ahead_turns: float = 0.0
    tool_lease_s: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.agents is not None and self.agents < 1:
            raise ValueError(
                f"a budget of {self.agents} agents would let nobody run: give 1 or more, or None for no limit"
            )
        if self.tokens is not None and not self.tokens > 0:
            raise ValueError(
                f"a budget of {self.tokens} tokens would let nobody run: give more than 0, or None for no limit"
            )
        if min(self.pause_turns, self.admit_turns, self.ahead_turns) < 0:
            raise ValueError(
                f"a reserve cannot be negative: pause_turns={self.pause_turns}, admit_turns={self.admit_turns}, "
                f"ahead_turns={self.ahead_turns}"
            )
        if self.tool_lease_s is not None and self.tool_lease_s < 0:
            raise ValueError(f"a lease of {self.tool_lease_s} s has lapsed before it began: give 0 or more")
        if self.pause_turns > self.admit_turns:
            raise ValueError(
                f"who is admitted would be paused at once: admit_turns={self.admit_turns} must be at least "
                f"pause_turns={self.pause_turns}"
            )


@dataclass(frozen=True, slots=True)
class PoolView:
    """The agents at the gate, in aggregates: what a controller may know of them.

    Attributes:
        active: Agents that hold a place (running or in a tool wait).
        running: Agents with a turn in flight, active ones and ones whose place is lent meanwhile.
        paused: Agents that gave their place up at a turn and wait for another.
        queued: Agents that were never admitted yet.
        weighed: Active agents that have reported tokens at least once.
        working_set_tokens: Σ of the footprints of the active agents, a shared prefix billed once. [KV tokens]
        growth_tokens: Σ over the active agents of the expected growth of a turn. [KV tokens]
        head_tokens: Footprint of the head of the queue; None with an empty queue or an unknown size.
        turns: Turns finished so far.
        prompt_tokens: Prompt tokens reported so far.
        output_tokens: Output tokens reported so far.
        kept_tokens: Prompt tokens so far that agents that had kept their place should have found in the cache.
        reusable_tokens: Prompt tokens so far that the cache could have served.
        recomputed_tokens: Of those, the tokens that were read again all the same.
        lost_tokens: Of those, the tokens of agents that had kept their place since the turn before.
        refusals: Calls so far that the server refused because of its load (429 or 503), each attempt.
    """

    active: int = 0
    running: int = 0
    paused: int = 0
    queued: int = 0
    weighed: int = 0
    working_set_tokens: float = 0.0
    growth_tokens: float = 0.0
    head_tokens: float | None = None
    turns: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    kept_tokens: int = 0
    reusable_tokens: int = 0
    recomputed_tokens: int = 0
    lost_tokens: int = 0
    refusals: int = 0

    @property
    def waiting(self) -> int:
        """Agents without a place: paused and queued."""
        return self.paused + self.queued


class EngineSample(Protocol):
    """One data-parallel engine behind a server's URL, over the window of the snapshot."""

    @property
    def usage(self) -> float | None:
        """Share of the KV cache held by requests in flight, 0 to 1; idle cached blocks count as free."""

    @property
    def hit_rate(self) -> float | None:
        """Prefix hits over queries, in tokens, within the window; None without queries (no evidence)."""

    @property
    def waiting(self) -> float | None:
        """Requests that wait in the server's own queue."""


class EngineView(Protocol):
    """What a controller may know of a server: `concur_agents.engines.EngineSnapshot` has this shape."""

    @property
    def engines(self) -> Sequence[EngineSample]:
        """Each engine of the server. A controller brakes on the worst and grows only if all allow it."""

    @property
    def usage(self) -> float | None:
        """The highest usage of any engine."""

    @property
    def hit_rate(self) -> float | None:
        """Hits over queries, summed over the engines, within the window; None without queries."""

    @property
    def capacity_tokens(self) -> float | None:
        """KV tokens that fit in all the engines together."""

    @property
    def window_s(self) -> float:
        """Span of the differences below; 0 while there is none. [s]"""

    @property
    def computed_prompt_tokens(self) -> float:
        """Prompt tokens within the window that no cache served."""

    @property
    def generation_tokens(self) -> float:
        """Output tokens within the window."""


@runtime_checkable
class Controller(Protocol):
    """Decides the budget. A pure state machine: the same calls give the same answers."""

    @property
    def name(self) -> str:
        """How it is called on the command line and in reports."""

    @property
    def needs_metrics(self) -> bool:
        """Whether it can do nothing useful without the engine's metrics."""

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:
        """The budget from now on.

        Args:
            pool: The agents at the gate, in aggregates.
            engine: What the server said last; None while it has said nothing.
            now: Seconds on a clock that never goes back; only differences mean something.
        """
