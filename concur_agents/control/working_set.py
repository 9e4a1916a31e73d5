"""The working-set controller: as many tokens of context active as the cache can hold, with nothing to tune."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from concur_agents.control.base import Budget
from concur_agents.control.capacity import LearnedCapacity
from concur_agents.control.horizon import horizon_turns
from concur_agents.control.lease import Lease
from concur_agents.control.pace import Pace
from concur_agents.control.pi import Pi
from concur_agents.control.share import Share
from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView, PoolView

PAUSE_TURNS = 1.0
"""An agent is paused when the next turn of all would not fit: what is in flight shows in the footprints only at its
end."""

ADMIT_TURNS = 1.5
"""An agent enters only if all can grow by so many turns at least, however much is about to end: with the same line as
for the pause whoever enters is paused at once, and each time costs a reading of its context."""

PATIENCE_S = 30.0
"""If no agent has told its tokens for this long, agents are counted, not weighed. [s]"""


@dataclass(eq=False)
class WorkingSet:
    """Keeps the contexts of the active agents within a share ρ of the KV cache::

        pause  while  Σ (footprint + PAUSE_TURNS · growth) > ρ · capacity
        admit  while  Σ (footprint + ADMIT_TURNS · growth) ≤ ρ · capacity
                 and  W(k) ≤ ρ · capacity for k up to m turns

    Footprints, growth, capacity and how long agents live are measured. W(k) is the working set to be expected after k
    turns of each (`Outlook`, `LifeTable`), and m is how far ahead it is worth to look (`horizon_turns`); ρ is cut when
    agents that kept their place lose what they had in the cache all the same (`Share`): foreign traffic, contexts that
    nobody told. A place is held through a tool wait for as long as reading the running contexts anew would take
    (`Lease`). What the server can do is what it has done (`Pace`). Where it does not tell its capacity it is learned
    from its usage (`LearnedCapacity`); until then, and while no agent tells its tokens, agents are counted as `Pi`
    does.

    Attributes:
        name: `working-set`.
        needs_metrics: True.
    """

    name: str = field(default="working-set", init=False)
    needs_metrics: bool = field(default=True, init=False)
    _share: Share = field(default_factory=Share, init=False)
    _pace: Pace = field(default_factory=Pace, init=False)
    _lease: Lease = field(default_factory=Lease, init=False)
    _learned: LearnedCapacity = field(default_factory=LearnedCapacity, init=False)
    _counting: Pi = field(default_factory=Pi, init=False)
    _silent_since: float | None = field(default=None, init=False)

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:
        """The budget from now on, see `Controller.decide`."""
        counted = self._counting.decide(pool, engine, now)
        if engine is None:
            return counted
        self._pace.see(engine, now)
        self._lease.see(engine, now)
        capacity, told = self._capacity(pool, engine)
        if capacity is None:
            return counted
        self._share.see(pool, engine, capacity)
        if self._nobody_tells(pool, now):
            return counted
        tokens = self._share.value * capacity
        return Budget(
            tokens=tokens,
            pause_turns=PAUSE_TURNS,
            admit_turns=ADMIT_TURNS,
            ahead_turns=horizon_turns(pool, self._pace),
            tool_lease_s=self._lease.seconds(capacity, self._pace),
            reason=self._reason(tokens, capacity, told=told),
        )

    def _capacity(self, pool: PoolView, engine: EngineView) -> tuple[float | None, bool]:
        """KV tokens that fit, and whether the server told."""
        told = known(engine.capacity_tokens)
        if told is not None and told >= 1:
            return told, True
        self._learned.see(pool, engine)
        return self._learned.tokens, False

    def _nobody_tells(self, pool: PoolView, now: float) -> bool:
        """Whether agents have been active for long, and none of them has told its tokens."""
        if pool.weighed or not pool.active:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        return self._silent_since is not None and now - self._silent_since >= PATIENCE_S

    def _reason(self, tokens: float, capacity: float, *, told: bool) -> str:
        cache = f"{self._share.value:.2f} of a cache of {'' if told else 'about '}{capacity:,.0f}"
        fits = f"{tokens:,.0f} tokens, {cache}"
        loss = self._share.loss
        return fits if loss is None else f"{fits}; active agents lost {loss:.0%} of theirs"
