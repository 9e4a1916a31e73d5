"""What is said first: what was run, on what, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from .words import count, known, milliseconds, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from concur_agents.replay.results import Comparison, RunResult

NO_GATE = "none"
FELT = 0.02
"""Throughputs that are nearer to each other than this share are called equal."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the headline.

    Attributes:
        label: Of what.
        value: Of the best run.
        beside: Of the run without a gate, in words; empty without one.
    """

    label: str
    value: str
    beside: str


@dataclass(frozen=True, slots=True)
class Headline:
    """The top of a comparison.

    Attributes:
        simulated: Whether no real server ran.
        what: Such as `64 agents on qwen3-32b`.
        source: Where the agents come from, and what they do.
        engine: What they ran on.
        result: The one sentence to remember.
        tiles: The figures behind it.
    """

    simulated: bool
    what: str
    source: str
    engine: str
    result: str
    tiles: tuple[Tile, ...]


def name_of(run: RunResult) -> str:
    """What a run is called: its controller, and `no gate` for `none`; without what XML cannot hold."""
    return "no gate" if run.controller == NO_GATE else "".join(filter(str.isprintable, run.controller))


def headline(comparison: Comparison) -> Headline:
    """What is said first of a comparison."""
    engine, workload = comparison.engine, comparison.workload
    pressure = ""
    if workload.oversubscription is not None:
        pressure = f"; their last contexts come to {workload.oversubscription:.1f}× the cache"
    size = "of unknown size" if engine.capacity_tokens is None else f"of {engine.capacity_tokens:,} tokens"
    version = f", vLLM {engine.version}" if engine.version else ""
    place = f"{engine.model} at {engine.url}{version}" if engine.simulated is None else engine.simulated
    grouped = _by_controller(comparison.runs)
    load = f"{count(workload.turns, 'turn')}, {workload.output_tokens:,} output tokens"
    return Headline(
        simulated=engine.simulated is not None,
        what=f"{count(workload.agents, 'agent')} on {engine.model}",
        source=f"{workload.source}: {load}{pressure}",
        engine=f"{place}, KV cache {size}",
        result=_result(grouped),
        tiles=_tiles(grouped),
    )


def _by_controller(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    grouped: dict[str, list[RunResult]] = {}
    for run in runs:
        grouped.setdefault(run.controller, []).append(run)
    return grouped


def _throughput(runs: Sequence[RunResult]) -> float:
    return median(run.output_tokens_per_s for run in runs)


def _makespan(runs: Sequence[RunResult]) -> float:
    return median(run.makespan_s for run in runs)


def _fastest(grouped: dict[str, list[RunResult]]) -> str:
    """The controller with the most output a second; of those that were gated, if any was."""
    gated = [controller for controller in grouped if controller != NO_GATE] or list(grouped)
    return max(gated, key=lambda controller: _throughput(grouped[controller]))


def _result(grouped: dict[str, list[RunResult]]) -> str:
    failed = sum(run.failed_agents for run in grouped[_fastest(grouped)])
    warning = f" But {failed:,} of its agents failed, whose work was not done." if failed else ""
    seeds = max(len(runs) for runs in grouped.values())
    return _verdict(grouped) + (f" Medians of {seeds} seeds." if seeds > 1 else "") + warning


def _verdict(grouped: dict[str, list[RunResult]]) -> str:
    best = _fastest(grouped)
    runs = grouped[best]
    if len(grouped) == 1:
        return f"{name_of(runs[0])}: done in {seconds(_makespan(runs))}, with {_throughput(runs):,.0f} output tokens/s."
    if NO_GATE not in grouped:
        slowest = min(grouped, key=lambda controller: _throughput(grouped[controller]))
        factor = _factor(runs, grouped[slowest])
        return f"The fastest was {best}: {factor:.2f}× the output tokens/s of {slowest}, the slowest."
    none = grouped[NO_GATE]
    factor = _factor(runs, none)
    times = f"done in {seconds(_makespan(runs))} instead of {seconds(_makespan(none))}"
    if abs(factor - 1) <= FELT:
        return f"No controller made a difference: the fastest, {best}, came to {factor:.2f}× no gate."
    if factor < 1:
        return f"No gate was the fastest: the nearest controller, {best}, came to {factor:.2f}× its output tokens/s."
    return f"{best} generated {factor:.2f}× the output tokens/s of no gate: {times}."


def _factor(runs: Sequence[RunResult], other: Sequence[RunResult]) -> float:
    return _throughput(runs) / (_throughput(other) or 1.0)


def _tiles(grouped: dict[str, list[RunResult]]) -> tuple[Tile, ...]:
    best = _fastest(grouped)
    other = grouped.get(NO_GATE) if best != NO_GATE else None

    def tile(label: str, figure: Callable[[RunResult], float | None], form: Callable[[float], str]) -> Tile:
        def mid(runs: Sequence[RunResult]) -> str:
            values = [value for run in runs if (value := figure(run)) is not None]
            return form(median(values)) if values else known(None, "")

        return Tile(label, mid(grouped[best]), f"no gate: {mid(other)}" if other else "")

    return (
        tile("output tokens/s", lambda run: run.output_tokens_per_s, "{:,.0f}".format),
        tile("makespan", lambda run: run.makespan_s, seconds),
        tile("prefix hit rate", lambda run: run.hit_rate, "{:.0%}".format),
        tile("p99 time per output token", lambda run: run.p99_time_per_output_token_s, milliseconds),
        tile("longest wait at the gate", lambda run: run.max_wait_s, seconds),
    )
