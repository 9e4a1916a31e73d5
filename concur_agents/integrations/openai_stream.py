"""Follows the body of an answer that is still to be read, so that its turn ends when it does.

The HTTP response is followed, not the SDK's stream around it: whatever reads it (a stream, a helper, a raw or
a streaming response, a stream class of the caller's own) goes through its `aiter_bytes` and `aclose`, or `iter_bytes`
and `close` where the client is synchronous.
"""

from __future__ import annotations

import asyncio
import json
import re
import weakref
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .openai_usage import report_usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from concur_agents.agent import Turn
    from concur_agents.sync import SyncTurn

    from .openai_usage import TurnOfRequest

_BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\n|\r(?!\Z))")
"""Ends an event of a stream (WHATWG HTML, 9.2.5). Atomic groups, or one CRLF would count as two line ends; a CR
that came last may be half of a CRLF."""


def follow_body(response: Any, turn: Turn, *, hide_usage: bool) -> None:
    """End a turn when the body of its response is over, and report the usage that the body tells.

    It is over when the server says so (`[DONE]`, a completed Responses answer), when it is read to its end or
    no further (an error, a cancellation, a reader that leaves), when it is closed, and when nobody holds it.

    Args:
        response: An `httpx` or `httpx2` response whose body is not read yet.
        turn: The turn to report to and to end, once.
        hide_usage: Keep the chunk that carries only usage from the reader, who did not ask for it.
    """
    end_soon = partial(_end_soon, asyncio.get_running_loop(), turn)
    _AsyncFollowed(response, turn, turn.end, end_soon, hide_usage=hide_usage)


def follow_sync_body(response: Any, turn: SyncTurn, *, hide_usage: bool) -> None:
    """`follow_body` for the response of a synchronous client, which may be read and closed in any thread.

    Closed even by the garbage collector, which closes the generators of the SDK's streams in the middle of anything,
    so that the end of the turn is never waited for.
    """
    _SyncFollowed(response, turn, turn.end_soon, turn.end_soon, hide_usage=hide_usage)


class _Followed:
    """Stands in for the two methods of a response that readers use, until its body is over."""

    def __init__(
        self,
        response: Any,
        turn: TurnOfRequest,
        end: Callable[[], None],
        end_soon: Callable[[], None],
        *,
        hide_usage: bool,
    ) -> None:
        self._response = response
        self._end = end
        self._abandoned = weakref.finalize(response, end_soon)
        self._abandoned.atexit = False
        self._stand_ins = self._stand_in()
        self._body: _Body = _Document(turn)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            self._body = _EventStream(turn, self._finish, hide_usage=hide_usage)
        vars(response).update(self._stand_ins)

    def _stand_in(self) -> dict[str, Callable[..., Any]]:
        """The methods of the response to replace, by their names."""
        raise NotImplementedError

    def _finish(self) -> None:
        if self._abandoned.detach() is not None:
            for name in self._stand_ins:
                vars(self._response).pop(name, None)
            self._end()


class _AsyncFollowed(_Followed):
    def _stand_in(self) -> dict[str, Callable[..., Any]]:
        self._read = self._response.aiter_bytes
        self._close = self._response.aclose
        return {"aiter_bytes": self.aiter_bytes, "aclose": self.aclose}

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        held = b""
        try:
            async with aclosing(self._read()) as pieces:
                async for piece in pieces:
                    ready, held = _cut(held + self._body.feed(piece), chunk_size)
                    for part in ready:
                        yield part
            for part in _last_parts(held + self._body.rest(), chunk_size):
                yield part
        finally:
            self._finish()

    async def aclose(self) -> None:
        try:
            await self._close()
        finally:
            # httpx closes a response by itself when the last byte has come, before the reader of it knows.
            self._body.close()
            self._finish()


class _SyncFollowed(_Followed):
    def _stand_in(self) -> dict[str, Callable[..., Any]]:
        self._read = self._response.iter_bytes
        self._close = self._response.close
        return {"iter_bytes": self.iter_bytes, "close": self.close}

    def iter_bytes(self, chunk_size: int | None = None) -> Generator[bytes, None, None]:
        held = b""
        try:
            with closing(self._read()) as pieces:
                for piece in pieces:
                    ready, held = _cut(held + self._body.feed(piece), chunk_size)
                    yield from ready
            yield from _last_parts(held + self._body.rest(), chunk_size)
        finally:
            self._finish()

    def close(self) -> None:
        try:
            self._close()
        finally:
            self._body.close()  # as above
            self._finish()


def _cut(held: bytes, size: int | None) -> tuple[list[bytes], bytes]:
    """The parts of a size that are complete, and what is left; all there is if no size is wanted."""
    if size is None:
        return [held] * bool(held), b""
    whole = len(held) // size * size
    return [held[at : at + size] for at in range(0, whole, size)], held[whole:]


def _last_parts(held: bytes, size: int | None) -> list[bytes]:
    ready, rest = _cut(held, size)
    return [*ready, rest] if rest else ready


def _end_soon(loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
    """End a turn from a finalizer: garbage is collected in any thread, and in the middle of anything."""
    try:
        loop.call_soon_threadsafe(turn.end)
    except RuntimeError:
        # The loop is closed: nobody waits at this gate any more.
        return


class _Body(Protocol):
    def feed(self, piece: bytes) -> bytes:
        """Look at a piece of the body; returns what the reader may see now."""

    def rest(self) -> bytes:
        """The body is complete; returns what the reader has not seen yet."""

    def close(self) -> None:
        """No more will come, be it complete or not: the last moment to report."""


class _Document:
    """A JSON document: its usage is known when it is complete."""

    def __init__(self, turn: TurnOfRequest) -> None:
        self._turn = turn
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> bytes:
        self._pieces.append(piece)
        return piece

    def rest(self) -> bytes:
        return b""

    def close(self) -> None:
        report_usage(self._turn, _parsed(b"".join(self._pieces)))


class _EventStream:
    """Server-sent events: usage comes in one of the last, or in each with `continuous_usage_stats`."""

    def __init__(self, turn: TurnOfRequest, finish: Callable[[], None], *, hide_usage: bool) -> None:
        self._turn = turn
        self._finish = finish
        self._hide_usage = hide_usage
        self._buffer = b""

    def feed(self, piece: bytes) -> bytes:
        scanned = max(0, len(self._buffer) - 3)  # an end of up to 4 bytes may have been cut in two
        self._buffer += piece
        shown: list[bytes] = []
        start = 0
        for end in _BLANK_LINE.finditer(self._buffer, scanned):
            event = self._buffer[start : end.end()]
            start = end.end()
            if not self._learn_from(event):
                shown.append(event)
        self._buffer = self._buffer[start:]
        return b"".join(shown) if self._hide_usage else piece

    def rest(self) -> bytes:
        hidden = self._learn_from(self._buffer)
        return self._buffer if self._hide_usage and not hidden else b""

    def close(self) -> None:
        self._learn_from(self._buffer)

    def _learn_from(self, event: bytes) -> bool:
        """Report and end as the event tells; returns whether it is to be hidden from the reader."""
        if b'"usage"' not in event and b"[DONE]" not in event:
            return False  # nearly all of them: not worth parsing twice
        data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if data.startswith(b"[DONE]"):
            self._finish()
            return False
        answer = _parsed(data)
        if not isinstance(answer, dict):
            return False
        if report_usage(self._turn, answer.get("response")):
            self._finish()  # of the events of a Responses stream only the last one tells usage
        report_usage(self._turn, answer)
        return self._hide_usage and answer.get("choices") == [] and answer.get("usage") is not None


def _parsed(document: bytes) -> Any:
    """A JSON document, None if it is not one."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None
