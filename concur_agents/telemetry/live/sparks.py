"""Figures as signs of a terminal: spark lines, bars, spans of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SPARKS = "▁▂▃▄▅▆▇█"
FULL, EMPTY, MARK = "█", "░", "┃"

PLAIN = str.maketrans("▁▂▃▄▅▆▇█░┃·–→…×", "..::-=+#.|--~~x")
"""The same for terminals that have ASCII only."""


def spark_line(values: Sequence[float | None], top: float) -> str:
    """A line of bars: `top` is a full one, None a gap."""
    return "".join(
        " " if value is None else SPARKS[min(len(SPARKS) - 1, int(len(SPARKS) * value / top))] if top else SPARKS[0]
        for value in values
    )


def bar(share: float, width: int, *, mark: float | None = None) -> str:
    """A bar that is full to `share` of its width, and marked at `mark` if that is within it."""
    full = min(width, round(share * width))
    cells = [FULL] * full + [EMPTY] * (width - full)
    if mark is not None and 0 < mark < 1:
        cells[min(width - 1, int(mark * width))] = MARK
    return "".join(cells)


def span(seconds: float) -> str:
    """A time in at most six characters, such as `8 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} d"


def share(value: float | None) -> str:
    """A share with two digits; `–` while it is not known."""
    return "–" if value is None else f"{value:.2f}"


def printable(text: str) -> str:
    """Text on one line, without what would steer a terminal: names and reasons may come from anywhere."""
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else "?" for sign in text)
