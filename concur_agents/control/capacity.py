"""The size of a cache that no metric tells, from what our running agents fill of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.control.signals import known

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView, PoolView

EVIDENCE = 1.0
"""Σ of usage over the looks, of which a capacity is told: two looks at a cache half full, a hundred at 1 %."""

MEMORY_LOOKS = 100.0
"""Looks after which a look is forgotten, so that a server that was started anew is learned anew."""


@dataclass(slots=True)
class LearnedCapacity:
    """Capacity from usage: running agents hold the share `running / active` of the working set, and it fills U::

        capacity = Σ (working set · running / active) / Σ U    over the looks

    Foreign traffic is in U too and makes the cache seem smaller: which is what is left for us.
    """

    _held: float = 0.0
    _usage: float = 0.0

    def see(self, pool: PoolView, engine: EngineView) -> None:
        """Take in one look."""
        usage = known(engine.usage)
        if usage is None or usage <= 0 or not pool.running or not pool.active or pool.weighed < pool.active:
            return
        kept = 1 - 1 / MEMORY_LOOKS
        self._held = kept * self._held + pool.working_set_tokens * min(1.0, pool.running / pool.active)
        self._usage = kept * self._usage + usage

    @property
    def tokens(self) -> float | None:
        """The capacity; None while there is too little evidence. [KV tokens]"""
        return self._held / self._usage if self._usage >= EVIDENCE and self._held >= 1 else None
