"""A gate as it is shown: the model, and its page and its line."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.stats import limits

from .page import BAD, NAME, WEAK, Page, cell, columns_for_sparks, fact, gauge, heading, line, peak, trend
from .recent import STEP_S
from .sparks import printable, share, span

if TYPE_CHECKING:
    from rich.text import Text

    from concur_agents.engines import EngineSnapshot
    from concur_agents.place import Waiting
    from concur_agents.stats import Decision, GateStats

Means = tuple[float | None, ...]

LISTED = 8
"""Decisions, and agents that wait, that are shown at most: the view should leave room for what the program prints."""
AIRY = 26
"""Lines from which on some may be empty."""
BROAD = 100
"""Columns from which on the list of who waits has their sizes."""


@dataclass(frozen=True, slots=True)
class Trends:
    """How the figures went, the newest last.

    Attributes:
        active: Agents that hold a place.
        waiting: Agents without one.
        usage: KV usage, 0 to 1.
        hit_rate: Prefix hit rate, 0 to 1.
        recomputed: Recompute ratio, 0 to 1.
        tokens_per_s: Output tokens a second.
    """

    active: Means = ()
    waiting: Means = ()
    usage: Means = ()
    hit_rate: Means = ()
    recomputed: Means = ()
    tokens_per_s: Means = ()


@dataclass(frozen=True, slots=True)
class GateShown:
    """All that is shown of a gate at one moment.

    Attributes:
        title: What is watched, such as `working-set at http://localhost:8000`; no password in it.
        watched_s: For how long. [s]
        stats: The gate now.
        server: What the server said last, if that is of now.
        decisions: The last changes of the budget and how long ago they were [s], the newest first.
        waiting: Who waits, the longest first.
        head: Who is let in next.
        recomputed: The recompute ratio of the last half minute; None without evidence.
        tokens_per_s: Output tokens a second; None if neither the server nor an agent told.
        trends: How these figures went.
        notes: What people should know: the metrics are gone, turns are held.
    """

    title: str
    watched_s: float
    stats: GateStats
    server: EngineSnapshot | None = None
    decisions: tuple[tuple[float, Decision], ...] = ()
    waiting: tuple[Waiting, ...] = ()
    head: Waiting | None = None
    recomputed: float | None = None
    tokens_per_s: float | None = None
    trends: Trends = Trends()
    notes: tuple[str, ...] = ()


def gate_page(shown: GateShown, width: int, height: int) -> Page:
    """The gate as a page.

    Args:
        shown: The gate.
        width: Columns of the terminal.
        height: Lines that the page may have; the lists are cut to it, the figures are not.
    """
    lines = [heading(f"concur · {shown.title}", span(shown.watched_s), width)]
    for note in shown.notes:
        lines += [line((part, BAD)) for part in textwrap.wrap(printable(note), max(20, width))]
    lines += _figures(shown, width)
    between = [line()] if height >= AIRY else []
    room = max(0, height - len(lines) - 2 * (1 + len(between)))  # a heading for each list
    waiting = min(len(shown.waiting), LISTED, max((room + 1) // 2, room - len(shown.decisions)))
    if shown.decisions and room > waiting:
        lines += between + _decisions(shown, width, room - waiting)
    if waiting:
        lines += between + _waiting(shown, width, waiting)
    return Page(lines)


def gate_line(shown: GateShown) -> str:
    """The gate in one line for a log, without what changes by itself."""
    stats = shown.stats
    parts = [f"{stats.active} active {stats.paused} paused {stats.queued} waiting {stats.finished} finished"]
    if stats.capacity_tokens:
        parts.append(f"working set {_of_capacity(stats.working_set_tokens, stats.capacity_tokens)}")
    server = shown.server
    if server is not None:
        parts.append(f"KV {share(server.usage)} hit {share(server.hit_rate)}")
    if stats.recompute_ratio is not None:
        parts.append(f"recomputed {stats.recompute_ratio:.2f}")
    parts.append(f"{shown.tokens_per_s or 0:.0f} tok/s")
    parts += [printable(note) for note in shown.notes]
    return " · ".join(parts)


def longest_wait(shown: GateShown) -> str:
    """Who waits longest, for the end of a line; nothing if nobody does."""
    if not shown.waiting:
        return ""
    first = shown.waiting[0]
    return printable(
        f" · {first.name} ({first.kind}) {first.state} for {span(first.waited_s)}, waits for {first.reason}"
    )


def _figures(shown: GateShown, width: int) -> list[Text]:
    stats, server, trends = shown.stats, shown.server, shown.trends
    lines = [
        trend("active", trends.active, f"{stats.active} agents, {stats.running} in a turn", width),
        trend("waiting", trends.waiting, f"{stats.paused} paused, {stats.queued} queued", width),
        _working_set(stats, width),
    ]
    if stats.metrics_age_s is not None or stats.metrics_error is not None:  # there is a server to be asked
        lines += [
            trend("KV usage", trends.usage, share(server.usage if server else None), width, top=1.0),
            trend("hit rate", trends.hit_rate, share(server.hit_rate if server else None), width, top=1.0),
        ]
    lines += [
        trend("recomputed", trends.recomputed, _recomputed(shown), width, top=1.0),
        trend("tokens/s", trends.tokens_per_s, _rate(shown, width), width),
    ]
    if server is not None:
        lines.append(
            fact(
                "server",
                f"{server.running or 0:.0f} requests running, {server.waiting or 0:.0f} in its queue, "
                f"{server.preemptions:.0f} preempted in {server.window_s:.0f} s",
            )
        )
    head = shown.head
    if head is not None:
        lines.append(fact("next", f"{head.name}, {head.state} for {span(head.waited_s)}, needs {head.reason}"))
    lines.append(
        fact(
            "so far",
            f"{stats.finished:,} agents finished, {stats.turns:,} turns, {stats.pauses:,} pauses, longest wait "
            f"{span(stats.longest_wait_s)}",
        )
    )
    return lines


def _working_set(stats: GateStats, width: int) -> Text:
    capacity = stats.capacity_tokens
    if not capacity:
        return fact("working set", f"{stats.working_set_tokens:,.0f} tokens; the cache's size is not known")
    allowed = stats.budget.tokens / capacity if stats.budget and stats.budget.tokens else None
    figure = _of_capacity(stats.working_set_tokens, capacity)
    return gauge("working set", stats.working_set_tokens / capacity, figure, width, mark=allowed)


def _of_capacity(tokens: float, capacity: float) -> str:
    return f"{tokens / capacity:.0%}: {tokens:,.0f} of {capacity:,.0f}"


def _recomputed(shown: GateShown) -> str:
    in_all = shown.stats.recompute_ratio
    return "–" if in_all is None else f"{share(shown.recomputed)} of late, {in_all:.2f} in all"


def _rate(shown: GateShown, width: int) -> str:
    now = "–" if shown.tokens_per_s is None else f"{shown.tokens_per_s:,.0f}"
    minutes = columns_for_sparks(width) * STEP_S / 60
    highest = peak(shown.tokens_per_s, shown.trends.tokens_per_s, width)
    return f"{now}{highest} in {minutes:.3g} min" if highest else now


def _decisions(shown: GateShown, width: int, room: int) -> list[Text]:
    lines = [line(("decisions", WEAK))]
    for ago_s, decision in shown.decisions:
        reason = decision.budget.reason or "no reason given"
        allowed = limits(decision.budget)
        text = printable(reason if allowed in reason else f"{allowed}: {reason}")
        for number, part in enumerate(textwrap.wrap(text, max(20, width - 10))[:2]):
            if len(lines) > room:
                return lines
            lines.append(line((cell(span(ago_s) if not number else "", 8, right=True), WEAK), f"  {part}"))
    return lines


def _waiting(shown: GateShown, width: int, room: int) -> list[Text]:
    name = max(14, min(24, width // 6))
    kind = max(8, min(16, width // 9))
    broad = width >= BROAD
    sizes = f" {'tokens':>8}" if broad else ""
    lines = [line((f"{'waits longest':{name}} {'kind':{kind}} {'':6} {'for':>6}{sizes}  needs", WEAK))]
    for one in shown.waiting[:room]:
        size = f"{one.footprint:,.0f}" if one.footprint else "?"
        lines.append(
            line(
                (cell(one.name, name), NAME),
                f" {cell(one.kind, kind)} {one.state:6} {span(one.waited_s):>6}",
                f" {size:>8}" if broad else "",
                f"  {printable(one.reason)}",
            )
        )
    return lines
