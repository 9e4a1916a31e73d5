"""Agents by their size, and how what they met is spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.replay.results import percentile

from .words import count, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from concur_agents.replay.results import AgentResult, RunResult

BANDS = 4
"""Bands of size: what is small and what is large, with a middle."""
FEWEST = 5
"""Agents that a band has at least, so that there is a spread to speak of."""


@dataclass(frozen=True, slots=True)
class Band:
    """The agents between two sizes.

    Attributes:
        above: Every one of them is larger. [tokens]
        up_to: None of them is larger. [tokens]
    """

    above: int
    up_to: int

    def __contains__(self, agent: AgentResult) -> bool:
        return self.above < agent.size_tokens <= self.up_to

    @property
    def words(self) -> str:
        """Such as `12K to 20K tokens`."""
        low = short(self.above) if self.above else "up"
        return f"{low} to {short(self.up_to)} tokens"


@dataclass(frozen=True, slots=True)
class Spread:
    """How the values of a group of agents are spread.

    Attributes:
        agents: How many have a value.
        p5: 5 % of them are below.
        p25: A quarter of them are below.
        p50: Half of them are below.
        p75: A quarter of them are above.
        p95: 5 % of them are above.
        most: The largest.
    """

    agents: int
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of the values; None without any."""
        if not values:
            return None
        p5, p25, p50, p75, p95 = (percentile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95))
        return cls(len(values), p5, p25, p50, p75, p95, max(values))


@dataclass(frozen=True, slots=True)
class BandRow:
    """One run's agents in one band; no spread where none of them has the figure."""

    run: str
    spread: Spread | None


@dataclass(frozen=True, slots=True)
class BandGroup:
    """All runs in one band."""

    title: str
    rows: tuple[BandRow, ...]


def size_bands(runs: Sequence[RunResult]) -> tuple[Band, ...]:
    """Bands that hold about equally many agents of all the runs together; none without agents.

    Agents whose first turn failed have no size and belong to none.
    """
    sizes = sorted(agent.size_tokens for run in runs for agent in run.agents if agent.size_tokens)
    if not sizes:
        return ()
    each = [sum(1 for agent in run.agents if agent.size_tokens) for run in runs]
    bands = max(1, min(BANDS, min(filter(None, each)) // FEWEST))
    edges = [sizes[round(number * (len(sizes) - 1) / bands)] for number in range(1, bands + 1)]
    edges = sorted(set(edges))  # of many agents of one size, edges fall together
    return tuple(Band(above, up_to) for above, up_to in zip([0, *edges], edges, strict=False))


def by_band(
    runs: Sequence[tuple[str, RunResult]], figure: Callable[[AgentResult], float | None]
) -> tuple[BandGroup, ...]:
    """How a figure of the agents is spread, by their size and by run.

    Args:
        runs: The runs and what they are called.
        figure: Of one agent; None if it has none.
    """
    groups = []
    for band in size_bands([run for _, run in runs]):
        rows = []
        for name, run in runs:
            values = [value for agent in run.agents if agent in band if (value := figure(agent)) is not None]
            rows.append(BandRow(name, Spread.of(values)))
        most = max(row.spread.agents if row.spread else 0 for row in rows)
        groups.append(BandGroup(f"{band.words}, {count(most, 'agent')}", tuple(rows)))
    return tuple(groups)
