"""A comparison as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from concur_agents.replay.results import Comparison, RunResult

WIDTH = 100
UNKNOWN = "–"

_COLUMNS = (
    "controller",
    "makespan\ns",
    "output\ntok/s",
    "vs\nnone",
    "hit\nrate",
    "KV usage\nmean/peak",
    "mean\nactive",
    "ms a token\np50   p99",
    "longest\nwait s",
    "pre-\nempted",
    "failed",
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table and what it is of.

    Args:
        comparison: With at least one run.
        console: Where to; stdout if not given.
    """
    console = console or Console(highlight=False)
    console.width = max(WIDTH, console.width)  # a narrow terminal folds the lines, rich would cut the figures off
    table = Table(*_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for run in comparison.runs:
        table.add_row(*_row(run))
    console.print(table, "")
    for line in _notes(comparison):
        console.print(line, markup=False, soft_wrap=True)


def _row(run: RunResult) -> tuple[str, ...]:
    return (
        run.controller,
        f"{run.makespan_s:,.1f}",
        f"{run.output_tokens_per_s:,.1f}",
        UNKNOWN if run.speedup_vs_none is None else f"{run.speedup_vs_none:.2f}×",
        _share(run.hit_rate),
        f"{_share(run.kv_usage_mean)}/{_share(run.kv_usage_peak)}",
        f"{run.mean_active_agents:.1f}",
        f"{1e3 * run.p50_time_per_output_token_s:,.0f} {1e3 * run.p99_time_per_output_token_s:5,.0f}",
        f"{run.max_wait_s:,.1f}",
        UNKNOWN if run.preemptions is None else f"{run.preemptions:,}",
        f"{run.failed_agents}",
    )


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _notes(comparison: Comparison) -> list[str]:
    engine, workload = comparison.engine, comparison.workload
    times = "" if workload.oversubscription is None else f"; last contexts {workload.oversubscription:.1f}× the cache"
    load = f"{workload.agents:,} agents, {workload.turns:,} turns, {workload.output_tokens:,} output tokens{times}"
    version = f", vLLM {engine.version}" if engine.version else ""
    size = "unknown size" if engine.capacity_tokens is None else f"{engine.capacity_tokens:,} tokens"
    floor, ideal = workload.hit_rate_floor, workload.hit_rate_ideal
    notes = [
        f"{workload.source}: {load}",
        f"{engine.model} at {engine.url}{version}, KV cache of {size}",
        f"hit rate: {floor:.2f} if only the shared prefix is found again, {ideal:.2f} if nothing is evicted",
    ]
    notes += [
        f"{run.controller}: {run.failed_agents} of {workload.agents} agents failed, the first with: {run.first_error}"
        for run in comparison.runs
        if run.failed_agents
    ]
    return notes
