"""The rows of the page's tables, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .headline import name_of
from .words import UNKNOWN, count, known, milliseconds, seconds, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from concur_agents.replay.results import Comparison, DecisionResult, RunResult

    from .bands import BandGroup

LONGEST_WAITS = 3
"""Agents named of each run."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in the table of runs.

    Attributes:
        name: What it is called.
        share: Its throughput as a share of the highest. [%]
        cells: What stands beside the name, in the order of the page's columns.
    """

    name: str
    share: float
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitRow:
    """An agent that waited long."""

    run: str
    agent: str
    size: str
    turns: str
    wait: str
    share: str


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision."""

    time: str
    budget: str
    reason: str
    agents: str
    working_set: str
    usage: str
    hit_rate: str


def run_rows(comparison: Comparison) -> list[RunRow]:
    """A row for each run, in their order."""
    most = max(run.output_tokens_per_s for run in comparison.runs) or 1.0
    return [
        RunRow(
            name=name_of(run),
            share=100 * run.output_tokens_per_s / most,
            cells=(
                f"{run.output_tokens_per_s:,.1f}",
                known(run.speedup_vs_none, "{:.2f}×"),
                seconds(run.makespan_s),
                known(run.hit_rate, "{:.2f}"),
                f"{known(run.kv_usage_mean, '{:.2f}')} / {known(run.kv_usage_peak, '{:.2f}')}",
                f"{run.mean_active_agents:.1f}",
                milliseconds(run.p50_time_per_output_token_s),
                milliseconds(run.p99_time_per_output_token_s),
                seconds(run.max_wait_s),
                known(run.preemptions, "{:,}"),
                f"{run.failed_agents:,}",
                f"{run.seed}",
            ),
        )
        for run in comparison.runs
    ]


def longest_waits(runs: Sequence[tuple[str, RunResult]]) -> list[WaitRow]:
    """The agents of each run that waited longest, all their waits together."""
    rows = []
    for name, run in runs:
        waited = sorted((agent for agent in run.agents if agent.wait_s > 0), key=lambda agent: -agent.wait_s)
        rows += [
            WaitRow(
                run=name,
                agent=agent.name,
                size=short(agent.size_tokens) if agent.turns else UNKNOWN,
                turns=f"{agent.turns:,}{', failed' if agent.failed else ''}",
                wait=seconds(agent.wait_s),
                share=f"{agent.wait_s / run.makespan_s:.0%}" if run.makespan_s else UNKNOWN,
            )
            for agent in waited[:LONGEST_WAITS]
        ]
    return rows


def spread_rows(groups: Sequence[BandGroup], form: Callable[[float], str]) -> list[tuple[str, ...]]:
    """The figures of a spread: band, run, agents, 5 %, 25 %, median, 75 %, 95 %, most."""
    rows = []
    for group in groups:
        for row in group.rows:
            spread = row.spread
            figures = (
                (UNKNOWN,) * 6
                if spread is None
                else tuple(
                    form(value) for value in (spread.p5, spread.p25, spread.p50, spread.p75, spread.p95, spread.most)
                )
            )
            rows.append((group.title, row.run, f"{spread.agents if spread else 0:,}", *figures))
    return rows


def decision_rows(run: RunResult) -> list[DecisionRow]:
    """The decisions that are kept of a run."""
    return [
        DecisionRow(
            time=seconds(decision.time_s),
            budget=_budget(decision),
            reason=decision.reason or "no reason given",
            agents=f"{decision.active:,} / {decision.waiting:,}",
            working_set=short(decision.working_set_tokens),
            usage=known(decision.kv_usage, "{:.2f}"),
            hit_rate=known(decision.hit_rate, "{:.2f}"),
        )
        for decision in run.decisions
    ]


def _budget(decision: DecisionResult) -> str:
    parts = []
    if decision.agents is not None:
        parts.append(count(decision.agents, "agent"))
    if decision.tokens is not None:
        parts.append(f"{decision.tokens:,.0f} tokens")
    return ", ".join(parts) or "no limit"
