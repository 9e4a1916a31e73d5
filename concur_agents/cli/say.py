"""What every command says on stderr, and how it ends."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended."""


def say(text: str) -> None:
    """A line on stderr, at once."""
    sys.stderr.write(f"concur: {text}\n")
    sys.stderr.flush()


def say_error(error: Exception) -> None:
    """An error in one line."""
    say(f"error: {' '.join(str(error).split())}")
