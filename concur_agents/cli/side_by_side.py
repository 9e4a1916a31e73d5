"""Two runs next to each other while they go on: what the gate changes, to be seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from concur_agents.telemetry.live.sparks import spark_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import RenderableType

    from concur_agents.replay.progress import Progress

BESIDE_SPARKS = 24
"""Columns of a panel that a spark line leaves to its frame, its name and its figure."""
KEEP_EVERY = 1 / 500
"""Of the longest run so far: how far apart the moments of a spark line are kept."""
LINE_EVERY_S = 3.0
"""Without a terminal a line is written this often, in real time. [s]"""


@dataclass(slots=True)
class _Side:
    """One run: where it is, and how it came there (time, hit rate, tokens so far)."""

    title: str
    last: Progress | None = None
    moments: list[tuple[float, float | None, float]] = field(default_factory=list)

    def add(self, progress: Progress) -> None:
        self.last = progress
        tokens = progress.output_tokens_per_s * progress.elapsed_s
        apart = KEEP_EVERY * progress.elapsed_s
        if not self.moments or progress.elapsed_s > self.moments[-1][0] + apart:
            self.moments.append((progress.elapsed_s, progress.hit_rate, tokens))

    @property
    def running(self) -> bool:
        return self.last is not None and not self.last.waiting_for_server

    def hit_rates(self, span: float, width: int) -> list[float | None]:
        """The mean hit rate in each of `width` parts of `span` seconds."""
        parts: list[list[float]] = [[] for _ in range(width)]
        for time, hit_rate, _ in self.moments:
            if hit_rate is not None:
                parts[_part(time, span, width)].append(hit_rate)
        return [sum(part) / len(part) if part else None for part in parts]

    def rates(self, span: float, width: int) -> list[float | None]:
        """The output tokens a second in each of `width` parts of `span` seconds."""
        ends: list[tuple[float, float] | None] = [None] * width
        for time, _, tokens in self.moments:
            ends[_part(time, span, width)] = (time, tokens)
        rates: list[float | None] = []
        before = (0.0, 0.0)
        for end in ends:
            if end is None or end[0] <= before[0]:
                rates.append(None)
                continue
            rates.append((end[1] - before[1]) / (end[0] - before[0]))
            before = end
        return rates


def _part(time: float, span: float, width: int) -> int:
    return min(width - 1, int(width * time / span)) if span else 0


class SideBySide:
    """Shows runs next to each other while its context is open: panels on a terminal, lines elsewhere.

    Args:
        titles: One for each run.
        console: Where to.
    """

    def __init__(self, titles: Sequence[str], console: Console) -> None:
        self._sides = [_Side(title) for title in titles]
        self._console = console
        self._live = (
            Live(get_renderable=self._render, console=console, refresh_per_second=8) if console.is_terminal else None
        )
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, number: int, progress: Progress) -> None:
        """Show how far a run is."""
        self._sides[number].add(progress)
        if self._live is None:
            self._write_line()

    def _write_line(self) -> None:
        now = self._console.get_time()
        done = all(side.last is not None and side.last.agents_done == side.last.agents for side in self._sides)
        if now < self._next_line and not done:
            return
        self._next_line = now + LINE_EVERY_S
        parts = [f"{side.title}: {_words(side.last)}" for side in self._sides if side.running and side.last is not None]
        if parts:
            self._console.print(" | ".join(parts), markup=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        span = max((side.last.elapsed_s for side in self._sides if side.last is not None), default=0.0)
        width = max(8, self._console.width // len(self._sides) - BESIDE_SPARKS)
        rates = [side.rates(span, width) for side in self._sides]
        top = max((rate for known in rates for rate in known if rate is not None), default=0.0)
        grid = Table.grid(expand=True, padding=(0, 1))
        for _ in self._sides:
            grid.add_column(ratio=1)
        sparks = [
            (spark_line(side.hit_rates(span, width), 1.0), spark_line(known, top))
            for side, known in zip(self._sides, rates, strict=True)
        ]
        grid.add_row(*map(_panel, self._sides, sparks))
        return grid


def _panel(side: _Side, sparks: tuple[str, str]) -> Panel:
    last = side.last
    if last is None or not side.running:
        return Panel(Text("waits for its turn", style="dim"), title=side.title)
    rows = Table.grid(padding=(0, 1))
    rows.add_column(no_wrap=True, style="dim", min_width=11)
    rows.add_column(no_wrap=True)
    hit_rate = "–" if last.hit_rate is None else f"{last.hit_rate:.2f}"
    rows.add_row("time", f"{last.elapsed_s:,.0f} s")
    rows.add_row("turns", _bar(last.turns_done, last.turns, f"{last.turns_done:,}/{last.turns:,}"))
    rows.add_row("agents", f"{last.active} active, {last.paused + last.queued} waiting")
    if last.capacity_tokens:
        share = last.working_set_tokens / last.capacity_tokens
        rows.add_row("working set", _bar(share, 1.0, f"{share:.1f}× cache", too_much=share > 1))
    rows.add_row("hit rate", f"{sparks[0]} {hit_rate}")
    rows.add_row("tokens/s", f"{sparks[1]} {last.output_tokens_per_s:,.0f}")
    return Panel(rows, title=side.title)


def _bar(done: float, total: float, text: str, *, too_much: bool = False) -> Group:
    table = Table.grid(padding=(0, 1))
    style = "red" if too_much else "green"
    table.add_row(
        ProgressBar(total=total, completed=min(done, total), width=10, complete_style=style, finished_style=style), text
    )
    return Group(table)


def _words(last: Progress | None) -> str:
    if last is None:
        return ""
    hit_rate = "–" if last.hit_rate is None else f"{last.hit_rate:.2f}"
    share = f", {last.working_set_tokens / last.capacity_tokens:.1f}× cache" if last.capacity_tokens else ""
    return (
        f"{last.elapsed_s:,.0f} s, {last.turns_done}/{last.turns} turns, {last.active} active{share}, hit {hit_rate}, "
        f"{last.output_tokens_per_s:,.0f} tok/s"
    )
