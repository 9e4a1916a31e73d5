"""Where a live view is painted: over itself on a terminal, as lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Protocol, cast

from rich.console import Console
from rich.live import Live

from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.console import RenderableType

    from .page import Page

PAINT_EVERY_S = 0.25
"""Figures that change more often cannot be read. [s]"""
LINE_EVERY_S = 10.0
"""A log of an hour's run should still be readable. [s]"""
TALLEST = 32
LEFT = 3
"""Most lines of a view, and the least that it leaves of a terminal: the rest is for what the program prints."""


class View(Protocol):
    """What can be shown."""

    def page(self, width: int, height: int) -> Page:
        """A page for a terminal of so many columns, of no more than so many lines."""

    def lines(self) -> Sequence[tuple[str, str]]:
        """The same for a log: lines, each with an end that alone is no reason to write it again."""


class Screen(Protocol):
    """Shows a view, and the next one in its place.

    Attributes:
        every_s: How often it is worth while. [s]
    """

    every_s: float

    @property
    def gone(self) -> bool:
        """Whether nobody can see it any more, as the terminal or the reader of the pipe is gone."""

    def show(self, view: View) -> None:
        """Show a view."""

    def close(self) -> None:
        """Show nothing more, and leave the terminal as it was; may be called again."""


def open_screen(stream: TextIO | None, *, line_every_s: float = LINE_EVERY_S) -> Screen:
    """A screen for a stream.

    Args:
        stream: Such as `sys.stderr`; None, as in a program without a console, is a screen that nobody sees.
        line_every_s: How often a line is written if it is no terminal. [s]
    """
    if stream is None or stream.closed:
        return _Nothing()
    taken = hasattr(stream, "rich_proxied_file")  # by another live display, above which there is room for lines
    if taken or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return _Lines(stream, line_every_s)
    return _Terminal(stream)


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002  as rich has it
        """Leave it: whoever is killed while it is hidden leaves a terminal without one."""
        return False


class _Terminal:
    every_s = PAINT_EVERY_S

    def __init__(self, stream: TextIO) -> None:
        self._writer = Writer(stream)
        # What the program prints is folded by the terminal, as ever, and not by rich.
        self._console = _Console(
            file=cast("TextIO", self._writer), force_terminal=True, highlight=False, soft_wrap=True, markup=False
        )
        self._view: View | None = None
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            auto_refresh=False,
            vertical_overflow="crop",
            redirect_stdout=_is_terminal(sys.stdout),
            redirect_stderr=_is_terminal(sys.stderr),
        )
        self._handlers: list[tuple[logging.StreamHandler[TextIO], TextIO, TextIO]] = []
        before = sys.stdout, sys.stderr
        self._live.start()
        self._take_log_handlers({before[0]: sys.stdout, before[1]: sys.stderr})

    @property
    def gone(self) -> bool:
        return self._writer.broken

    def show(self, view: View) -> None:
        self._view = view
        if not self._writer.busy:  # it has not taken the last one yet
            self._live.refresh()

    def close(self) -> None:
        if not self._live.is_started:
            return
        try:
            self._live.stop()
        finally:
            for handler, proxy, stream in self._handlers:
                if handler.stream is proxy:
                    handler.setStream(stream)
            self._writer.close()

    def _render(self) -> RenderableType:
        if self._view is None:
            return ""
        size = self._console.size
        return self._view.page(size.width, min(TALLEST, size.height - LEFT))

    def _take_log_handlers(self, proxies: dict[TextIO, TextIO]) -> None:
        """Let log lines go where `print` goes while the view is there: handlers keep the stream they were made with."""
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for handler in [one for logger in loggers if isinstance(logger, logging.Logger) for one in logger.handlers]:
            if isinstance(handler, logging.StreamHandler):
                proxy = proxies.get(handler.stream)
                if proxy is not None and proxy is not handler.stream:
                    self._handlers.append((handler, proxy, handler.stream))
                    handler.setStream(proxy)


class _Lines:
    def __init__(self, stream: TextIO, every_s: float) -> None:
        self.every_s = every_s
        self._writer = Writer(stream)
        self._last: dict[int, str] = {}

    @property
    def gone(self) -> bool:
        return self._writer.broken

    def show(self, view: View) -> None:
        for number, (text, end) in enumerate(view.lines()):
            if text and self._last.get(number) != text:
                self._last[number] = text
                self._writer.write(f"concur: {text}{end}\n")

    def close(self) -> None:
        self._writer.close()


class _Nothing:
    every_s = LINE_EVERY_S
    gone = True

    def show(self, view: View) -> None:
        pass

    def close(self) -> None:
        pass


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
