"""A run over time: who was active, what they filled of the cache, and what came of it."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .svg import ALARM, FAINT, INK, MAIN, OTHER, REST, UNITS_AN_INCH, as_svg
from .words import count, known, seconds, short, time_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from concur_agents.replay.results import Comparison, Moment, RunResult

WIDTH, HEIGHT = 340, 600
"""Of the figure of one run: four of them stand beside each other on a wide page. [CSS pixels]"""
RATE_PARTS = 60
"""Throughput is that of a sixtieth of the longest run: turns end in bursts, and each is counted at its end."""
HEADROOM = 1.08
_DOTS, _DASHES = (0, (1, 1.5)), (0, (5, 2))


@dataclass(frozen=True, slots=True)
class Scales:
    """The axes that all runs of a comparison share.

    Attributes:
        span_s: The longest run. [s]
        agents: The most at a time.
        tokens: The largest working set, or the cache if that is larger. [tokens]
        rate: The highest throughput. [output tokens/s]
        capacity: KV tokens that fit; None while unknown.
        hit_floor: Hit rate when only the shared prefix is found again.
        hit_ideal: Hit rate when nothing is evicted.
    """

    span_s: float
    agents: float
    tokens: float
    rate: float
    capacity: int | None
    hit_floor: float
    hit_ideal: float

    @classmethod
    def of(cls, comparison: Comparison, runs: Sequence[RunResult]) -> Scales:
        """Those that the runs fit in."""
        span = max(run.makespan_s for run in runs)
        moments = [moment for run in runs for moment in run.timeline]
        rates = [rate for run in runs for rate in throughput(run.timeline, span / RATE_PARTS) if rate is not None]
        capacity = comparison.engine.capacity_tokens
        return cls(
            span_s=span or 1.0,
            agents=max((m.active + m.paused + m.queued for m in moments), default=0) or 1,
            tokens=max([*(m.working_set_tokens for m in moments), capacity or 0.0]) or 1.0,
            rate=max([*rates, *(run.output_tokens_per_s for run in runs)]) or 1.0,
            capacity=capacity,
            hit_floor=comparison.workload.hit_rate_floor,
            hit_ideal=comparison.workload.hit_rate_ideal,
        )


def throughput(timeline: Sequence[Moment], window_s: float) -> list[float | None]:
    """Output tokens a second at each moment, over the window before it; None at the first one.

    Args:
        timeline: In the order of time.
        window_s: How far to look back; to the moment before at least. [s]
    """
    times = [moment.time_s for moment in timeline]
    rates: list[float | None] = []
    for place, moment in enumerate(timeline):
        earlier = timeline[max(0, min(place - 1, bisect_left(times, moment.time_s - window_s)))]
        span = moment.time_s - earlier.time_s
        rates.append((moment.output_tokens - earlier.output_tokens) / span if span > 0 else None)
    return rates


def draw_timeline(run: RunResult, title: str, name: str, scales: Scales) -> str:
    """The figure of one run, as SVG; to be called within `house_style()`.

    Args:
        run: Whose.
        title: What the run is called.
        name: Of the figure, one in the page.
        scales: The axes that it shares with the others.
    """
    figure = Figure(figsize=(WIDTH / UNITS_AN_INCH, HEIGHT / UNITS_AN_INCH))
    panels = figure.subplots(5, 1, sharex=True)
    figure.subplots_adjust(
        left=42 / WIDTH, right=1 - 8 / WIDTH, top=1 - 22 / HEIGHT, bottom=36 / HEIGHT, hspace=26 / 76
    )
    unit, words = time_unit(scales.span_s)
    times = [moment.time_s / unit for moment in run.timeline]
    agents, tokens, usage, hits, rates = panels
    _agents(agents, times, run, scales)
    _working_set(tokens, times, run, scales)
    _share(usage, times, [moment.kv_usage for moment in run.timeline], "KV usage")
    _share(hits, times, [moment.hit_rate for moment in run.timeline], "Prefix hit rate")
    for level, label in ((scales.hit_floor, "floor and ideal"), (scales.hit_ideal, None)):
        hits.axhline(level, color=FAINT, linewidth=1.0, linestyle=_DOTS, label=label)
    _legend(hits, ncols=1)
    _rates(rates, times, run, scales)
    for panel in panels:
        panel.set_xlim(0, 1.02 * scales.span_s / unit)
        panel.axvline(run.makespan_s / unit, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        if not run.timeline:
            _say(panel, "nothing was recorded")
    _mark_end(agents, run, unit, scales)
    rates.set_xlabel(words)
    rates.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 5, 6, 10]))
    return as_svg(figure, name, title=f"{title} over time", description=_description(run, scales))


def _agents(axes: Axes, times: Sequence[float], run: RunResult, scales: Scales) -> None:
    axes.set_title("Agents")
    moments = run.timeline
    parts = axes.stackplot(
        times,
        [moment.active for moment in moments],
        [moment.paused for moment in moments],
        [moment.queued for moment in moments],
        labels=("active", "paused", "waiting"),
        colors=(MAIN, "none", REST),
        linewidth=0,
    )
    parts[1].set(hatch="////", facecolor="none", edgecolor=OTHER)
    _budget(axes, times, [moment.budget_agents for moment in moments])
    axes.set_ylim(0, HEADROOM * scales.agents)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _legend(axes, ncols=4)


def _working_set(axes: Axes, times: Sequence[float], run: RunResult, scales: Scales) -> None:
    axes.set_title("Working set, tokens")
    sizes = [moment.working_set_tokens for moment in run.timeline]
    capacity = scales.capacity
    fitting = sizes if capacity is None else [min(size, capacity) for size in sizes]
    axes.fill_between(times, fitting, color=MAIN, alpha=0.55, linewidth=0)
    if capacity is not None:
        axes.fill_between(times, fitting, sizes, color=ALARM, alpha=0.6, linewidth=0)
    axes.plot(times, sizes, color=INK, linewidth=0.9)
    _budget(axes, times, [moment.budget_tokens for moment in run.timeline])
    if capacity is not None:
        axes.axhline(capacity, color=INK, linewidth=1.3, linestyle=_DASHES, label=f"cache, {short(capacity)}")
    _legend(axes, ncols=2)
    axes.set_ylim(0, HEADROOM * scales.tokens)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _share(axes: Axes, times: Sequence[float], values: Sequence[float | None], title: str) -> None:
    axes.set_title(title)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    if values and all(value is None for value in values):
        _say(axes, "the server does not say")
        return
    axes.plot(times, [math.nan if value is None else value for value in values], color=MAIN, linewidth=1.4)


def _rates(axes: Axes, times: Sequence[float], run: RunResult, scales: Scales) -> None:
    axes.set_title("Output tokens/s")
    rates = [math.nan if rate is None else rate for rate in throughput(run.timeline, scales.span_s / RATE_PARTS)]
    axes.fill_between(times, rates, color=MAIN, alpha=0.3, linewidth=0)
    axes.plot(times, rates, color=MAIN, linewidth=1.4)
    axes.plot(
        [0, run.makespan_s / time_unit(scales.span_s)[0]],
        [run.output_tokens_per_s] * 2,
        color=INK,
        linewidth=1.3,
        linestyle=_DASHES,
        label=f"mean {run.output_tokens_per_s:,.0f}",
    )
    _legend(axes, ncols=1)
    axes.set_ylim(0, HEADROOM * scales.rate)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _budget(axes: Axes, times: Sequence[float], limits: Sequence[float | None]) -> None:
    """What the gate allowed, if that is something."""
    if any(limit is not None for limit in limits):
        drawn = [math.nan if limit is None else limit for limit in limits]
        axes.step(times, drawn, color=INK, linewidth=1.1, linestyle=_DOTS, where="post", label="budget")


def _legend(axes: Axes, *, ncols: int) -> None:
    """On the right of the panel's title."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.045), ncols=ncols)


def _mark_end(axes: Axes, run: RunResult, unit: float, scales: Scales) -> None:
    late = run.makespan_s > 0.5 * scales.span_s
    axes.annotate(
        f"done {seconds(run.makespan_s)}",
        (run.makespan_s / unit, HEADROOM * scales.agents),
        xytext=(-4 if late else 4, -3),
        textcoords="offset points",
        horizontalalignment="right" if late else "left",
        verticalalignment="top",
    )


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT, style="italic")


def _tick(value: float) -> str:
    return "0" if not value else short(value).replace(".0", "")


def _description(run: RunResult, scales: Scales) -> str:
    """What there is to see, for who does not."""
    if not run.timeline:
        return "Nothing was recorded."
    most = max(moment.active for moment in run.timeline)
    largest = max(moment.working_set_tokens for moment in run.timeline)
    share = f", {largest / scales.capacity:.1f} times the cache" if scales.capacity else ""
    return (
        f"{seconds(run.makespan_s)} long. At most {count(most, 'agent')} active and a working set of "
        f"{short(largest)} tokens{share}. Hit rate over the run {known(run.hit_rate, '{:.2f}')}, "
        f"KV usage {known(run.kv_usage_mean, '{:.2f}')} in the mean, {run.output_tokens_per_s:,.0f} output tokens/s."
    )
