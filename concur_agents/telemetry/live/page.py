"""A page of lines for a terminal. Importing this module needs rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.errors import MissingExtra

try:
    from rich.cells import set_cell_size
    from rich.text import Text
except ImportError as missing:
    raise MissingExtra("a live view needs the rich package: pip install 'concur-agents[cli]'") from missing

from .recent import PARTS
from .sparks import PLAIN, bar, printable, spark_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

LABEL = 12
"""Columns for the name of a figure."""
FIGURES = 37
"""Columns for the figure itself: `81 %, 1,113,271 of 1,316,384 tokens` has to fit."""
LEAST_SPARKS = 8

NAME, WEAK, GOOD, BAD, STRONG = "cyan", "dim", "green", "red", "bold"


class Page:
    """Lines, each cut off at the width of the terminal.

    Args:
        lines: The lines, from the top.
    """

    def __init__(self, lines: Sequence[Text]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            cut = line.copy()
            if options.ascii_only:
                cut.plain = cut.plain.translate(PLAIN)
            cut.truncate(options.max_width, overflow="crop" if options.ascii_only else "ellipsis")
            yield from cut.render(console, end="\n")  # as segments: to fold them is most of what rich would do


def line(*parts: tuple[str, str] | str) -> Text:
    """One line of pieces, each with its style or without."""
    return Text.assemble(*parts)


def heading(left: str, right: str, width: int) -> Text:
    """A line with a title at its left and something small at its right."""
    room = max(0, width - len(right) - 1)
    return line((cell(left, room), STRONG), " ", (right, WEAK))


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Text in exactly so many columns."""
    text = printable(text)
    fits = Text(text)
    fits.truncate(width, overflow="ellipsis")
    if right:
        return " " * (width - fits.cell_len) + fits.plain
    return set_cell_size(fits.plain, width)


def columns_for_sparks(width: int) -> int:
    """How wide a spark line may be beside its name and its figure."""
    return min(PARTS, max(LEAST_SPARKS, width - LABEL - FIGURES - 1))


def trend(name: str, means: Sequence[float | None], figure: str, width: int, *, top: float | None = None) -> Text:
    """A figure with how it went.

    Args:
        name: What it is.
        means: How it went, the newest last.
        figure: What it is now.
        width: Columns of the page.
        top: What a full bar stands for; the highest of what is shown if not given.
    """
    shown = means[-columns_for_sparks(width) :]
    highest = max((value for value in shown if value is not None), default=0.0) if top is None else top
    return line((cell(name, LABEL), WEAK), (spark_line(shown, highest), NAME), f" {figure}")


def peak(now: float | None, means: Sequence[float | None], width: int) -> str:
    """The highest that a trend shows, as the end of its figure; nothing if nothing is known."""
    known = [value for value in (now, *means[-columns_for_sparks(width) :]) if value is not None]
    return f", peak {max(known):,.0f}" if known else ""


def gauge(name: str, share: float, figure: str, width: int, *, mark: float | None = None) -> Text:
    """A share as a bar, red from above the whole on.

    Args:
        name: What it is.
        share: How much of the whole.
        figure: The same in words.
        width: Columns of the page.
        mark: A limit below the whole.
    """
    drawn = bar(min(1.0, share), columns_for_sparks(width), mark=mark)
    return line((cell(name, LABEL), WEAK), (drawn, BAD if share > 1 else GOOD), f" {figure}")


def fact(name: str, figure: str, style: str = "") -> Text:
    """A figure without a history."""
    return line((cell(name, LABEL), WEAK), (printable(figure), style))
