"""The page: what was run and what came of it, with its figures and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from concur_agents.files import write_whole

from .bands import BandGroup, by_band
from .headline import Headline, headline, name_of
from .spreads import draw_latencies, draw_waits
from .svg import house_style
from .tables import DecisionRow, RunRow, WaitRow, decision_rows, longest_waits, run_rows, spread_rows
from .timelines import Scales, draw_timeline
from .words import count, milliseconds, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from concur_agents.replay.results import Comparison, RunResult

WAITS = "Waits at the gate, by agent size"
LATENCIES = "Time per output token, by agent size"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing, and what it is called."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class SpreadDrawing:
    """A drawing of a spread, with its figures as rows of a table."""

    title: str
    svg: str
    rows: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the gate of a run decided.

    Attributes:
        title: What the run is called.
        told: How many there were, in words.
        rows: Those that are kept.
    """

    title: str
    told: str
    rows: list[DecisionRow]


@dataclass(frozen=True, slots=True)
class Section:
    """One comparison, as the page has it."""

    headline: Headline
    rows: list[RunRow]
    seeds: int
    drawn: str
    failures: list[str]
    timelines: list[Drawing]
    spreads: list[SpreadDrawing]
    thinned: str
    waits: list[WaitRow]
    decisions: list[Decisions]


def render_report(comparisons: Sequence[Comparison]) -> str:
    """The page; the same comparisons give the same page.

    Args:
        comparisons: At least one, each with at least one run.

    Raises:
        ValueError: If there is nothing to report.
    """
    if not comparisons or not all(comparison.runs for comparison in comparisons):
        raise ValueError("there is nothing to report: give comparisons of at least one run each")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with house_style():
        sections = [_section(comparison, f"c{number}") for number, comparison in enumerate(comparisons)]
    return environment.get_template("page.html.j2").render(sections=sections)


def write_report(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the page, whole or not at all: a crash leaves the file as it was.

    Args:
        comparisons: At least one, each with at least one run.
        path: Where to.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If there is nothing to report.
    """
    write_whole(path, render_report(comparisons))


def _section(comparison: Comparison, name: str) -> Section:
    drawn = _drawn(comparison)
    seeds = len({run.seed for run in comparison.runs})
    scales = Scales.of(comparison, [run for _, run in drawn])
    return Section(
        headline=headline(comparison),
        rows=run_rows(comparison),
        seeds=seeds,
        drawn=f"Shown are the runs with seed {drawn[0][1].seed}." if seeds > 1 else "",
        failures=[
            f"{name_of(run)}: {run.failed_agents:,} of {count(comparison.workload.agents, 'agent')} failed, the first "
            f"with: {run.first_error or 'no message'}"
            for run in comparison.runs
            if run.failed_agents
        ],
        timelines=[
            Drawing(title, draw_timeline(run, title, f"{name}-time{number}", scales))
            for number, (title, run) in enumerate(drawn)
        ],
        spreads=_spreads(drawn, name),
        thinned=_thinned(comparison, drawn),
        waits=longest_waits(drawn),
        decisions=[
            Decisions(title, _decided(run), decision_rows(run))
            for title, run in drawn
            if run.decisions_made is not None
        ],
    )


def _drawn(comparison: Comparison) -> list[tuple[str, RunResult]]:
    """The runs that are shown in detail, with their names: of several seeds, those of the first."""
    first = comparison.runs[0].seed
    return [(name_of(run), run) for run in comparison.runs if run.seed == first]


def _spreads(drawn: Sequence[tuple[str, RunResult]], name: str) -> list[SpreadDrawing]:
    waits: tuple[BandGroup, ...] = by_band(drawn, lambda agent: agent.wait_s)
    if not waits:
        return []
    latencies = by_band(drawn, lambda agent: agent.time_per_output_token_s)
    return [
        SpreadDrawing(WAITS, draw_waits(waits, f"{name}-waits", title=WAITS), spread_rows(waits, seconds)),
        SpreadDrawing(
            LATENCIES,
            draw_latencies(latencies, f"{name}-latencies", title=LATENCIES),
            spread_rows(latencies, milliseconds),
        ),
    ]


def _thinned(comparison: Comparison, drawn: Sequence[tuple[str, RunResult]]) -> str:
    kept = max(len(run.agents) for _, run in drawn)
    if not kept or kept >= comparison.workload.agents:
        return ""
    return f"Of {comparison.workload.agents:,} agents, {kept:,} are kept, evenly chosen by size."


def _decided(run: RunResult) -> str:
    made, kept = run.decisions_made or 0, len(run.decisions)
    if kept < made:
        return f"{count(made, 'decision')}, of which the {kept} that changed the budget most"
    return count(made, "decision")
