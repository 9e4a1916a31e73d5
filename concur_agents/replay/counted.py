"""What a server counted during a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

from concur_agents.engines import EngineReading

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has counted since its start, over all its engines; None where it does not say. [tokens]"""

    queries: float | None
    hits: float | None
    prompt_tokens: float | None
    computed_prompt_tokens: float | None
    preemptions: float | None

    @classmethod
    def between(cls, before: Iterable[EngineReading], after: Iterable[EngineReading]) -> Self:
        """The counts between two readings; None also where an engine restarted meanwhile."""
        earlier = {reading.engine: reading for reading in before}
        pairs = [(earlier.get(reading.engine, EngineReading()), reading) for reading in after]
        return cls(**{field.name: _sum_of_deltas(pairs, field.name) for field in fields(cls)})


def _sum_of_deltas(pairs: list[tuple[EngineReading, EngineReading]], name: str) -> float | None:
    total = 0.0
    for before, after in pairs:
        start, end = getattr(before, name), getattr(after, name)
        if start is None or end is None or end < start:
            return None
        total += end - start
    return total
