"""How waits and latencies are spread over the agents, by their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .svg import FAINT, INK, MAIN, OTHER, UNITS_AN_INCH, as_svg
from .words import time_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from .bands import BandGroup, Spread

WIDTH = 560
"""Of a figure; two of them stand beside each other on a wide page. [CSS pixels]"""
ROW, HEAD, EDGE = 17, 25, 36
"""Of a run in a band, of a band's title, and of the axis below. [CSS pixels]"""
NAME = 130
"""Room for a run's name on the left. [CSS pixels]"""
LONGEST_NAME = 20
LOG_FROM = 20.0
"""From this ratio of the largest to the smallest figure on, the axis of latencies is logarithmic."""


def draw_waits(groups: Sequence[BandGroup], name: str, *, title: str) -> str:
    """The agents' waits, from zero; to be called within `house_style()`.

    Args:
        groups: At least one; the figures in seconds.
        name: Of the figure, one in the page.
        title: What it shows.
    """
    figure, axes = _draw(groups)
    most = max((spread.most for spread in _spreads(groups)), default=0.0) or 1.0
    unit, words = time_unit(most)
    axes.set_xlim(-0.01 * most, 1.04 * most)
    places = MaxNLocator(6, steps=[1, 2, 3, 5, 10]).tick_values(0.0, most / unit)
    axes.set_xticks([place * unit for place in places if 0 <= place * unit <= 1.04 * most])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}"))
    axes.set_xlabel(words)
    return as_svg(figure, name, title=title, description=_description(title))


def draw_latencies(groups: Sequence[BandGroup], name: str, *, title: str) -> str:
    """The agents' times per output token; to be called within `house_style()`.

    Args:
        groups: At least one; the figures in seconds.
        name: Of the figure, one in the page.
        title: What it shows.
    """
    figure, axes = _draw(groups)
    most = max((spread.most for spread in _spreads(groups)), default=0.0) or 1.0
    least = min((spread.p5 for spread in _spreads(groups)), default=0.0)
    if least > 0 and most / least > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.3, most * 1.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if most / least < 1000 else (1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("a token, on a logarithmic axis")
    else:
        axes.set_xlim(-0.01 * most, 1.04 * most)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("a token")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1e3 * value:,g} ms" if value else "0"))
    return as_svg(figure, name, title=title, description=_description(title))


def _draw(groups: Sequence[BandGroup]) -> tuple[Figure, Axes]:
    """A row for each band and run, without the axis: 5 to 95 % as a line, the middle half as a box, and two marks."""
    height = sum(HEAD + ROW * len(group.rows) for group in groups) + EDGE
    figure = Figure(figsize=(WIDTH / UNITS_AN_INCH, height / UNITS_AN_INCH))
    axes = figure.add_axes((NAME / WIDTH, EDGE / height, 1 - (NAME + 16) / WIDTH, 1 - EDGE / height))
    axes.set_ylim(height - EDGE, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    y = 0.0
    for group in groups:
        _text(axes, -NAME + 2, y + HEAD - 9, group.title, weight="bold")
        y += HEAD
        for row in group.rows:
            _text(axes, -6, y + ROW / 2, _clip(row.run), align="right")
            if row.spread is None:
                _text(axes, 4, y + ROW / 2, "no agent has the figure", colour=FAINT)
            else:
                _draw_spread(axes, y + ROW / 2, row.spread)
            y += ROW
    return figure, axes


def _draw_spread(axes: Axes, y: float, spread: Spread) -> None:
    axes.plot([spread.p5, spread.p95], [y, y], color=MAIN, linewidth=1.4, solid_capstyle="butt")
    axes.plot([spread.p25, spread.p75], [y, y], color=MAIN, linewidth=9, alpha=0.55, solid_capstyle="butt")
    axes.plot([spread.p50] * 2, [y - 6, y + 6], color=INK, linewidth=2.2, solid_capstyle="butt")
    axes.plot([spread.most], [y], color=OTHER, marker="d", markersize=5.5, linewidth=0, clip_on=False)


def _spreads(groups: Sequence[BandGroup]) -> list[Spread]:
    return [row.spread for group in groups for row in group.rows if row.spread is not None]


def _text(
    axes: Axes, x: float, y: float, text: str, *, align: str = "left", weight: str = "normal", colour: str = INK
) -> None:
    """Text at so many pixels beside the left edge."""
    axes.annotate(
        text,
        (0, y),
        xycoords=("axes fraction", "data"),
        xytext=(x, 0),
        textcoords="offset points",
        ha=align,
        va="center",
        weight=weight,
        color=colour,
        annotation_clip=False,
    )


def _clip(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _description(title: str) -> str:
    return f"{title}, a row for each run. The table that follows has the figures."
