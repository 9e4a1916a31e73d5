"""A comparison as people read it."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """Print the table and what it is of. Of several seeds, each figure is the median, and throughput has its spread.

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
    for runs in _by_controller(comparison):
        table.add_row(*_row(runs))
    console.print(table, "")
    for line in _notes(comparison):
        console.print(line, markup=False, soft_wrap=True)


def _by_controller(comparison: Comparison) -> list[list[RunResult]]:
    grouped: dict[str, list[RunResult]] = {}
    for run in comparison.runs:
        grouped.setdefault(run.controller, []).append(run)
    return list(grouped.values())


def _row(runs: Sequence[RunResult]) -> tuple[str, ...]:
    def mid(figure: Callable[[RunResult], float | None], form: str = "{:,.1f}") -> str:
        known = [value for run in runs if (value := figure(run)) is not None]
        return form.format(median(known)) if known else UNKNOWN

    return (
        runs[0].controller,
        mid(lambda run: run.makespan_s),
        mid(lambda run: run.output_tokens_per_s) + _spread([run.output_tokens_per_s for run in runs]),
        mid(lambda run: run.speedup_vs_none, "{:.2f}×"),
        mid(lambda run: run.hit_rate, "{:.2f}"),
        f"{mid(lambda run: run.kv_usage_mean, '{:.2f}')}/{mid(lambda run: run.kv_usage_peak, '{:.2f}')}",
        mid(lambda run: run.mean_active_agents),
        mid(lambda run: 1e3 * run.p50_time_per_output_token_s, "{:,.0f}")
        + mid(lambda run: 1e3 * run.p99_time_per_output_token_s, " {:5,.0f}"),
        mid(lambda run: run.max_wait_s),
        mid(lambda run: run.preemptions, "{:,.0f}"),
        f"{sum(run.failed_agents for run in runs)}",
    )


def _spread(values: Sequence[float]) -> str:
    """How far the seeds are apart: half the range, as a share of the median."""
    if len(values) == 1:
        return ""
    return f" ±{50 * (max(values) - min(values)) / median(values):.0f}%"


def _notes(comparison: Comparison) -> list[str]:
    engine, workload = comparison.engine, comparison.workload
    times = "" if workload.oversubscription is None else f"; last contexts {workload.oversubscription:.1f}× the cache"
    load = f"{workload.agents:,} agents, {workload.turns:,} turns, {workload.output_tokens:,} output tokens{times}"
    version = f", vLLM {engine.version}" if engine.version else ""
    size = "unknown size" if engine.capacity_tokens is None else f"{engine.capacity_tokens:,} tokens"
    floor, ideal = workload.hit_rate_floor, workload.hit_rate_ideal
    where = f"at {engine.url}{version}" if engine.simulated is None else f"simulated: {engine.simulated}"
    notes = [
        f"{workload.source}: {load}",
        f"{engine.model} {where}, KV cache of {size}",
        f"hit rate: {floor:.2f} if only the shared prefix is found again, {ideal:.2f} if nothing is evicted",
    ]
    seeds = len({run.seed for run in comparison.runs})
    if seeds > 1:
        notes.append(f"medians of {seeds} seeds; ± half the range")
    notes += [
        f"{run.controller}: {run.failed_agents} of {workload.agents} agents failed, the first with: {run.first_error}"
        for run in comparison.runs
        if run.failed_agents
    ]
    return notes
