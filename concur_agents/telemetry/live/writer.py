"""Writes to a stream from a thread of its own, so that a terminal that takes nothing holds nobody up."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

LAST_WORDS_S = 1.0
"""How long the end waits for a slow terminal. [s]"""
MOST_PENDING = 1_000_000
"""Characters that may wait to be written; what comes then is dropped, or hours of a log would fill the memory."""
RETRY_S = 0.02
"""Between two tries at a stream that does not block; programs on the same terminal may have made it so. [s]"""


class Writer:
    """A file to write to without ever waiting.

    A terminal may stop taking anything for as long as it likes: Ctrl-S, a lost ssh connection, a pager at its first
    page. A program that writes to it then stops. Through this one it goes on, and the terminal gets what it missed
    when it goes on too, up to a limit.

    Args:
        stream: Where it is written to in the end.

    Attributes:
        encoding: That of the stream.
        dropped: Writes that came to nothing because too much was waiting.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding or "utf-8"
        self.dropped = 0
        self._descriptor = _descriptor(stream)
        self._pid = os.getpid()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._closed = False
        self._broken = False
        self._thread = threading.Thread(target=self._write_all, name="concur-agents terminal", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether something waits to be written."""
        return self._pending > 0

    @property
    def broken(self) -> bool:
        """Whether the stream is gone: nothing can be written any more."""
        return self._broken

    def isatty(self) -> bool:
        """Whether it is a terminal in the end."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's own descriptor.

        Raises:
            OSError: If it has none.
        """
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Have a text written, soon."""
        if self._closed or os.getpid() != self._pid:  # a forked process has no such thread
            self._stream.write(text)
            return len(text)
        with self._lock:
            if self._pending > MOST_PENDING:
                self.dropped += 1
                return len(text)
            self._pending += len(text)
        self._queue.put(text)
        return len(text)

    def flush(self) -> None:
        """Nothing: it is written as soon as can be."""
        if self._closed:
            self._stream.flush()

    def close(self) -> None:
        """Wait a moment until all is written; from then on texts go to the stream directly. May be called again."""
        if self._closed:
            return
        self._queue.put(None)
        self._thread.join(LAST_WORDS_S)
        self._closed = True

    def _write_all(self) -> None:
        while (text := self._queue.get()) is not None:
            try:
                if not self._broken:
                    self._write(text)
            except (OSError, ValueError):  # the terminal was closed: nobody looks, the program goes on
                self._broken = True
            with self._lock:
                self._pending -= len(text)

    def _write(self, text: str) -> None:
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        # Not through the stream: at the end of the program the interpreter wants its lock, and would not get it from
        # a thread that a terminal holds up.
        rest = text.encode(self.encoding, "replace")
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                time.sleep(RETRY_S)


def _descriptor(stream: TextIO) -> int | None:
    if os.name != "posix" or hasattr(stream, "rich_proxied_file"):
        return None  # a console of Windows, and a live display, want to be written to through the stream
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
