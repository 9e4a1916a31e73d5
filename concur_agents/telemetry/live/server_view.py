"""Servers as they are shown: the model, and its page and its lines."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .page import BAD, NAME, STRONG, WEAK, Page, cell, fact, heading, line, peak, trend
from .sparks import printable, share, span, spark_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from concur_agents.engines import EngineSnapshot

Means = tuple[float | None, ...]

ROW_FIGURES = 37
"""Columns of a row of the table beside its address and its spark line."""


@dataclass(frozen=True, slots=True)
class ServerShown:
    """All that is shown of a server at one moment.

    Attributes:
        url: Its address; no password in it.
        snapshot: What it said last; None while it has said nothing.
        error: Why it says nothing at the moment; None if it does.
        away_s: For how long it has said nothing. [s]
        running: Trend of its running requests.
        usage: Trend of its KV usage.
        hit_rate: Trend of its prefix hit rate.
        tokens_per_s: Trend of its output tokens a second.
    """

    url: str
    snapshot: EngineSnapshot | None = None
    error: str | None = None
    away_s: float = 0.0
    running: Means = ()
    usage: Means = ()
    hit_rate: Means = ()
    tokens_per_s: Means = ()

    @property
    def output_tokens_per_s(self) -> float | None:
        """Output tokens a second; None while there is no second page to compare with."""
        return _per_s(self.snapshot, self.snapshot.generation_tokens if self.snapshot else 0.0)


def servers_page(servers: Sequence[ServerShown], width: int, height: int) -> Page:
    """The servers as a page: a block for each if they fit, else a table with a line for each.

    Args:
        servers: The servers.
        width: Columns of the terminal.
        height: Lines that the page may have.
    """
    blocks = [_block(server, width) for server in servers]
    lines = [one for block in blocks for one in (*block, line())][:-1]
    if len(lines) <= height:
        return Page(lines)
    lines = _table(servers, width)
    if len(lines) > height:
        hidden = len(lines) - height + 1
        lines = [*lines[: height - 1], line((f"{hidden} more: the window is not high enough", WEAK))]
    return Page(lines)


def server_line(server: ServerShown) -> str:
    """A server in one line for a log; of one that is away, why; of one that was not asked yet, nothing."""
    snapshot = server.snapshot
    if server.error is not None:
        return f"{server.url}: away: {printable(server.error)}"
    if snapshot is None:
        return ""
    parts = [
        f"KV {share(snapshot.usage)} hit {share(snapshot.hit_rate)}",
        f"{snapshot.running or 0:.0f} running {snapshot.waiting or 0:.0f} waiting",
        f"{_number(server.output_tokens_per_s)} tok/s out",
        _prompts(snapshot),
    ]
    if snapshot.preemptions:
        parts.append(f"{snapshot.preemptions:.0f} preempted")
    if snapshot.sleeping:
        parts.append("sleeps")
    return f"{server.url}: {' · '.join(parts)}"


def _block(server: ServerShown, width: int) -> list[Text]:
    snapshot = server.snapshot
    if snapshot is None:
        return [heading(server.url, "", width), *_state(server, width)]
    cache = f"cache of {snapshot.capacity_tokens:,.0f} tokens" if snapshot.capacity_tokens else ""
    lines = [heading(server.url, cache, width)]
    if server.error is not None or snapshot.sleeping:
        lines += _state(server, width)
    now = server.error is None
    queue = f"{snapshot.running or 0:.0f} running, {snapshot.waiting or 0:.0f} in its queue"
    lines += [
        trend("requests", server.running, queue if now else "–", width),
        trend("KV usage", server.usage, _usage(snapshot) if now else "–", width, top=1.0),
        trend("hit rate", server.hit_rate, share(snapshot.hit_rate) if now else "–", width, top=1.0),
        trend("tokens/s", server.tokens_per_s, _rates(server, width) if now else "–", width),
    ]
    if now:
        restarts = f", {snapshot.restarts} restarts" if snapshot.restarts else ""
        lines.append(fact("prompts", f"{_prompts(snapshot)}, {snapshot.preemptions:.0f} preempted{restarts}"))
    return lines


def _table(servers: Sequence[ServerShown], width: int) -> list[Text]:
    sparks = min(30, max(8, width - ROW_FIGURES - 24))
    name = max(10, width - ROW_FIGURES - sparks)
    head = f"{'server':{name}} {'KV usage':{sparks + 5}} {'hit':>5} {'running':>8} {'queue':>6} {'tok/s':>7}"
    lines = [line((head, WEAK))]
    for server in servers:
        title = (cell(server.url, name), STRONG)
        snapshot = server.snapshot
        if server.error is not None or snapshot is None:
            lines.append(line(title, " ", _words(server)))
            continue
        figures = (
            f" {share(snapshot.usage):>4} {share(snapshot.hit_rate):>5} {snapshot.running or 0:>8.0f} "
            f"{snapshot.waiting or 0:>6.0f} {_number(server.output_tokens_per_s):>7}"
        )
        drawn = spark_line(server.usage[-sparks:], 1.0)
        lines.append(line(title, " ", (drawn, NAME), figures))
    return lines


def _state(server: ServerShown, width: int) -> list[Text]:
    text, style = _words(server)
    return [line((part, style)) for part in textwrap.wrap(text, max(20, width))]


def _words(server: ServerShown) -> tuple[str, str]:
    if server.error is not None:
        return f"away for {span(server.away_s)}: {printable(server.error)}", BAD
    return ("not asked yet", WEAK) if server.snapshot is None else ("it sleeps", BAD)


def _usage(snapshot: EngineSnapshot) -> str:
    known = [engine.usage for engine in snapshot.engines if engine.usage is not None]
    if len(known) < 2:
        return share(snapshot.usage)
    return f"{share(max(known))} at most, {share(min(known))} at least of {len(snapshot.engines)}"


def _rates(server: ServerShown, width: int) -> str:
    now = server.output_tokens_per_s
    return _number(now) + peak(now, server.tokens_per_s, width)


def _prompts(snapshot: EngineSnapshot) -> str:
    """How fast prompts come in, and how much of them no cache served."""
    rate = _per_s(snapshot, snapshot.prompt_tokens)
    if not snapshot.prompt_tokens:
        return f"{_number(rate)} tok/s in"
    return f"{_number(rate)} tok/s in, {snapshot.computed_prompt_tokens / snapshot.prompt_tokens:.0%} of it computed"


def _per_s(snapshot: EngineSnapshot | None, tokens: float) -> float | None:
    return tokens / snapshot.window_s if snapshot is not None and snapshot.window_s > 0 else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
