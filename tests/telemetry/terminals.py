"""Terminals that are none, and what would be seen on them."""

from __future__ import annotations

import io
import re
import threading

_PIECES = re.compile(r"\x1b\[(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal(io.StringIO):
    """Keeps what is written to it."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def seen(self):
        """What stands on it in the end, line by line; it is as high as need be."""
        lines, row, column = [""], 0, 0
        for count, command, back, down, text in _PIECES.findall(self.getvalue()):
            if text:
                lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
                column += len(text)
            elif back:
                column = 0
            elif down:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif command == "A":
                row = max(0, row - int(count or 1))
            elif command == "K":
                lines[row] = ""
            else:
                assert command == "m", f"unknown to this terminal: {command}"
        return [line.rstrip() for line in lines]

    def text(self):
        return "\n".join(self.seen())


class Stuck(Terminal):
    """Takes nothing until it is let go."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text):
        self.go_on.wait()
        return super().write(text)


class Gone(Terminal):
    """Was there once."""

    def write(self, text):
        raise OSError(5, "Input/output error")
