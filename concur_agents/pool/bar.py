"""A bar of a batch's progress on a terminal. Importing this module needs rich."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column


class Bar:
    """One line on stderr that is drawn anew.

    Args:
        every_s: How often it is shown something new. [s]
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._bars = Bars(
            BarColumn(bar_width=20, table_column=Column(min_width=8)),
            # One column, so that a narrow terminal cuts off its end and not the middle of everything.
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True, highlight=False),
        )
        self._task: TaskID | None = None

    def show(self, done: int, total: int | None, figures: str) -> None:
        """Show the state."""
        of = f"/{total}" if total is not None else ""
        text = f"{done}{of} agents · {figures}"
        if self._task is None:
            self._task = self._bars.add_task("", total=total, completed=done, text=text)
            self._bars.start()
        else:
            self._bars.update(self._task, completed=done, text=text)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self._bars.stop()
