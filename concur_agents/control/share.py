"""What share of the cache is filled: less than planned where active agents lose what they had in it all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView, PoolView

SHARE = 0.88
"""Share of the cache that is filled. The rest is for what footprints cannot show: outputs in the making, blocks that
are not full, and what least-recently-used eviction takes from an agent in a tool wait before it takes what a finished
one left behind. In simulation throughput was the same from 0.85 to 0.95, and 1 to 5 % less at 1.0."""

LOWEST_SHARE = 0.25
"""However much foreign traffic there is, our agents keep this share of the cache to compete with."""

LOSS_LIMIT = 0.10
"""Loss at which the share is cut: of what agents that kept their place could have found in the cache, the part that was
evicted all the same. A few percent are cheaper than the agents that one would have to pause to avoid them."""

LOSS_FREE = 0.05
"""Loss under which a share that was cut may grow back. Between the two it stays, or it would hunt for ever."""

CUT_PER_LOSS = 0.5
"""A cut takes half of the loss off the share: 5 % for the least that counts, as a cache that overflows a little loses
much at once."""

DEEPEST_CUT = 0.75
"""No cut takes more than a quarter. When foreign traffic took half of a cache all was lost, and cuts of 8 % needed
seven minutes to follow it in simulation; such cuts need half of that."""

REFUSAL_CUT = 0.92
"""What a refused call takes: it tells that there is too much, not how much."""

RISE = 1.02
"""One rise. What is given up at once is taken back with care."""

EVIDENCE_SHARE = 0.5
"""A verdict needs turns that could have found this share of the cache in it. Fewer would judge one agent, not the
pool."""

SETTLING_ROUNDS = 2.0
"""After a cut nothing is judged for this many turns of each agent: in the first, agents are paused, and the others find
what was evicted before. Without it a real server's one overflow was punished nine times."""


@dataclass(slots=True)
class Share:
    """ρ, and the loss that moves it.

    What agents lose they tell themselves where the server reports cached tokens. Where it does not, the hits of the
    server's own counters are held against what the agents' last prompts let one expect. A refused call (429, 503) is a
    cut too.

    Attributes:
        value: ρ, the share of the cache to fill.
        loss: The last verdict; None before the first.
    """

    value: float = SHARE
    loss: float | None = None
    _reusable_before: int = 0
    _lost_before: int = 0
    _expected_before: int = 0
    _prompt_before: int = 0
    _hits: float = 0.0
    _settled_at: float = 0.0
    _refusals_before: int = 0

    def see(self, pool: PoolView, engine: EngineView, capacity: float) -> None:
        """Judge what was lost since the last verdict, if there is enough of it."""
        hit_rate = known(engine.hit_rate)
        prompt = pool.prompt_tokens - self._prompt_before
        self._prompt_before = pool.prompt_tokens
        self._hits += (hit_rate if hit_rate is not None else 1.0) * prompt
        if pool.turns < self._settled_at:
            self._begin(pool)
            return
        if pool.refusals > self._refusals_before:
            self._begin(pool)
            self._cut(pool, REFUSAL_CUT)
            return
        reusable = pool.reusable_tokens - self._reusable_before
        expected = pool.kept_tokens - self._expected_before
        if reusable >= EVIDENCE_SHARE * capacity:
            self._judge(pool, (pool.lost_tokens - self._lost_before) / reusable)
        elif not reusable and expected >= EVIDENCE_SHARE * capacity:
            self._judge(pool, max(0.0, 1 - self._hits / expected))

    def _judge(self, pool: PoolView, loss: float) -> None:
        self.loss = loss
        self._begin(pool)
        if loss > LOSS_LIMIT:
            self._cut(pool, max(DEEPEST_CUT, 1 - CUT_PER_LOSS * loss))
        elif loss < LOSS_FREE:
            self.value = min(SHARE, RISE * self.value)

    def _cut(self, pool: PoolView, factor: float) -> None:
        self.value = max(LOWEST_SHARE, factor * self.value)
        self._settled_at = pool.turns + SETTLING_ROUNDS * (pool.active + pool.paused)

    def _begin(self, pool: PoolView) -> None:
        self._reusable_before, self._lost_before = pool.reusable_tokens, pool.lost_tokens
        self._expected_before, self._hits = pool.kept_tokens, 0.0
        self._refusals_before = pool.refusals
