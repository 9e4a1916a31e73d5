"""The working-set controller: as many tokens of context active as the cache can hold, with nothing to tune."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from concur_agents.control.base import Budget
from concur_agents.control.pi import Pi
from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView, PoolView

SHARE = 0.85
"""Share of the cache that is filled. The rest is for what footprints cannot show: outputs in the making, blocks that
are not full, and what least-recently-used eviction takes from an agent in a tool wait before it takes what a finished
one left behind. Throughput is flat from 0.8 to 0.9 and falls steeply above 0.95 (docs/controllers.md)."""

LOWEST_SHARE = 0.25
"""However much foreign traffic there is, our agents keep this share of the cache to compete with."""

LOSS_LIMIT = 0.10
"""Loss at which the share is cut: of what agents that kept their place could have found in the cache, the part that was
evicted all the same. A few percent are cheaper than the agents that one would have to pause to avoid them."""

LOSS_FREE = 0.05
"""Loss under which a share that was cut may grow back. Between the two it stays, or it would hunt for ever."""

CUT = 0.92
"""One cut. A cache that overflows loses much at once, so the overflow is small when it is first seen."""

RISE = 1.02
"""One rise. Four of them undo a cut: what is given up at once is taken back with care."""

EVIDENCE_SHARE = 0.5
"""A verdict needs turns that could have found this share of the cache in it. Fewer would judge one agent, not the
pool."""

SETTLING_ROUNDS = 2.0
"""After a cut nothing is judged for this many turns of each agent: in the first, agents are paused, and the others find
what was evicted before. Without it a real server's one overflow was punished nine times."""

PAUSE_TURNS = 2.0
"""An agent is paused when two more turns of all would not fit: one that is in flight, and shows only at its end, and
the next. With one, small contexts that grow by a quarter a turn overflowed a real server's cache before anybody
paused."""

ADMIT_TURNS = 3.0
"""An agent enters if all can grow by this many turns: with the same line for both, whoever enters is paused at once,
and each time costs a reading of its context. A turn more or less made no difference."""

LEASE_READS = 4.0
"""A place is held through a tool wait as long as reading the running contexts anew would take this many times over.
Once is the break-even of one agent that has the server's prefill to itself; beside decoding it gets a part of it."""

LONGEST_LEASE_S = 3600.0
"""A lease is no longer than this, however little was read of late. [s]"""

PREFILL_WINDOW_S = 2.0
"""Prompt tokens a second are told from windows as long as this; shorter ones see single steps. [s]"""

PREFILL_HALF_LIFE_S = 600.0
"""The highest rate of prefill is believed for this long: what was read when nothing else ran. [s]"""

PATIENCE_S = 30.0
"""If no agent has told its tokens for this long, agents are counted, not weighed. [s]"""


@dataclass(eq=False)
class WorkingSet:
    """Keeps the contexts of the active agents within a share of the KV cache::

        pause  while  Σ (footprint + PAUSE_TURNS · growth) > share · capacity
        admit  while  Σ (footprint + ADMIT_TURNS · growth) ≤ share · capacity

    Footprints, growth and capacity are measured. The share begins at `SHARE`; it is cut when agents that kept their
    place lose what they had in the cache all the same (foreign traffic, contexts that nobody told), and grows back when
    they do not.

    Through a tool wait a place is leased for `LEASE_READS` · U · capacity / P seconds: U · capacity are the KV tokens
    of the running turns, P the highest prefill speed seen of late. After that a waiter may take it. That is the rule
    of the ski rental: hold what is cheap to hold, and pay for it anew when it has cost as much.

    Where the server does not tell its capacity, or no agent its tokens, it counts agents as `Pi` does.

    Attributes:
        name: `working-set`.
        needs_metrics: True.
    """

    name: str = field(default="working-set", init=False)
    needs_metrics: bool = field(default=True, init=False)
    _share: float = field(default=SHARE, init=False)
    _loss: float | None = field(default=None, init=False)
    _reusable_before: int = field(default=0, init=False)
    _lost_before: int = field(default=0, init=False)
    _settled_at: float = field(default=0.0, init=False)
    _prefill: float = field(default=0.0, init=False)
    _prefill_at: float = field(default=0.0, init=False)
    _silent_since: float | None = field(default=None, init=False)
    _counting: Pi = field(default_factory=Pi, init=False)

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:
        """The budget from now on, see `Controller.decide`."""
        capacity = known(engine.capacity_tokens) if engine is not None else None
        counted = self._counting.decide(pool, engine, now)
        if engine is None or capacity is None or capacity < 1:
            return counted
        self._learn_prefill(engine, now)
        self._learn_share(pool, capacity)
        if self._nobody_tells(pool, now):
            return counted
        tokens = self._share * capacity
        return Budget(
            tokens=tokens,
            pause_turns=PAUSE_TURNS,
            admit_turns=ADMIT_TURNS,
            tool_lease_s=self._lease(engine, capacity),
            reason=self._reason(tokens, capacity),
        )

    def _learn_share(self, pool: PoolView, capacity: float) -> None:
        if pool.turns < self._settled_at:
            self._reusable_before, self._lost_before = pool.reusable_tokens, pool.lost_tokens
            return
        reusable = pool.reusable_tokens - self._reusable_before
        if reusable < EVIDENCE_SHARE * capacity:
            return
        self._loss = (pool.lost_tokens - self._lost_before) / reusable
        self._reusable_before, self._lost_before = pool.reusable_tokens, pool.lost_tokens
        if self._loss > LOSS_LIMIT:
            self._share = max(LOWEST_SHARE, CUT * self._share)
            self._settled_at = pool.turns + SETTLING_ROUNDS * (pool.active + pool.paused)
        elif self._loss < LOSS_FREE:
            self._share = min(SHARE, RISE * self._share)

    def _learn_prefill(self, engine: EngineView, now: float) -> None:
        if self._prefill:
            self._prefill *= 0.5 ** ((now - self._prefill_at) / PREFILL_HALF_LIFE_S)
        self._prefill_at = now
        if engine.window_s >= PREFILL_WINDOW_S:
            self._prefill = max(self._prefill, engine.computed_prompt_tokens / engine.window_s)

    def _lease(self, engine: EngineView, capacity: float) -> float | None:
        usage = known(engine.usage)
        if usage is None or not self._prefill:
            return None
        return min(LONGEST_LEASE_S, LEASE_READS * max(0.0, usage) * capacity / self._prefill)

    def _nobody_tells(self, pool: PoolView, now: float) -> bool:
        """Whether agents have been active for long, and none of them has told its tokens."""
        if pool.weighed or not pool.active:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        return self._silent_since is not None and now - self._silent_since >= PATIENCE_S

    def _reason(self, tokens: float, capacity: float) -> str:
        fits = f"{tokens:,.0f} tokens, {self._share:.2f} of a cache of {capacity:,.0f}"
        return fits if self._loss is None else f"{fits}; active agents lost {self._loss:.0%} of theirs"
