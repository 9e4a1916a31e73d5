"""How far a comparison is, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

if TYPE_CHECKING:
    from types import TracebackType

    from concur_agents.replay.progress import Progress

# A log of an hour's run should still be readable. [s]
LINE_EVERY_S = 10.0


class Reporter(AbstractContextManager["Reporter"], Protocol):
    """Shows how far a comparison is, while its context is open."""

    def show(self, progress: Progress) -> None:
        """Show how far the present run is."""

    def note(self, text: str) -> None:
        """Say something once."""


def make_reporter(runs: int, console: Console | None = None) -> Reporter:
    """A bar if `console` (stderr, if not given) is a terminal, else lines.

    Args:
        runs: How many runs there will be.
        console: Where to.
    """
    console = console or Console(stderr=True, highlight=False)
    return _BarReporter(console, runs) if console.is_terminal else _LineReporter(console, runs)


def figures(progress: Progress) -> str:
    """The state of a run in a few words."""
    if progress.waiting_for_server:
        return "begins when the server is idle"
    hit_rate = "–" if progress.hit_rate is None else f"{progress.hit_rate:.2f}"
    return (
        f"{progress.agents_done}/{progress.agents} agents · {progress.active} active {progress.paused} paused "
        f"{progress.queued} waiting · hit {hit_rate} · {progress.output_tokens_per_s:.0f} tok/s"
    )


class _BarReporter(Reporter):
    def __init__(self, console: Console, runs: int) -> None:
        self._bars = Bars(
            BarColumn(bar_width=8, table_column=Column(min_width=8)),
            # One column, so that a narrow terminal cuts off its end and not the middle of everything.
            TextColumn(
                "{task.description} {task.completed:.0f}/{task.total:.0f} turns · {task.fields[figures]}", markup=False
            ),
            console=console,
        )
        self._runs = runs
        self._begun = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        if progress.waiting_for_server:
            self._begun += 1
            name = f"{self._begun}/{self._runs} {progress.controller}"
            self._bars.add_task(name, total=progress.turns, figures=figures(progress))
        else:
            self._bars.update(self._bars.task_ids[-1], completed=progress.turns_done, figures=figures(progress))

    def note(self, text: str) -> None:
        self._bars.console.print(f"note: {text}", markup=False)


class _LineReporter(Reporter):
    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._runs = runs
        self._begun = 0
        self._next_s = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, progress: Progress) -> None:
        if progress.waiting_for_server:
            self._begun += 1
            self._next_s = 0.0
        elif progress.elapsed_s < self._next_s and progress.agents_done < progress.agents:
            return
        else:
            self._next_s = progress.elapsed_s + LINE_EVERY_S
        self._console.print(
            f"{self._begun}/{self._runs} {progress.controller}: {progress.turns_done}/{progress.turns} turns, "
            f"{figures(progress)}",
            markup=False,
            soft_wrap=True,
        )

    def note(self, text: str) -> None:
        self._console.print(f"note: {text}", markup=False, soft_wrap=True)
