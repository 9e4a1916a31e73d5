"""What threads post to an event loop: in order, and waking it once for all that is posted before it comes to look.

A loop that is woken too often comes to look by itself for a while, as a network card's driver does when packets come
fast: thread and loop on two cores take the interpreter's lock from each other at every waking, which costs more than
what most letters ask for.
"""

from __future__ import annotations

import contextvars
import math
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


LOOK_AGAIN_S = 0.01
"""Two wakings within this make a loop look by itself after as long, for as long as it finds anything. A place is given
on by so much later at the most, which is little of an LLM call; half of it saves half as many wakings. [s]"""


def post(
    loop: asyncio.AbstractEventLoop,
    action: Callable[[], None],
    context: contextvars.Context | None = None,
    *,
    urgent: bool = True,
) -> bool:
    """Let something be done on a loop, and do not wait for it.

    Args:
        loop: The loop.
        action: What is to be done.
        context: In which context; None: in a copy of this one.
        urgent: False if `LOOK_AGAIN_S` from now is soon enough.

    Returns:
        False if the loop is closed.
    """
    box = _boxes.get(loop)
    if box is None:
        box = _boxes.setdefault(loop, _Mailbox())
    try:
        box.post(loop, action, context or contextvars.copy_context(), urgent=urgent)
    except RuntimeError:
        box.clear()
        return False
    return True


def read(loop: asyncio.AbstractEventLoop) -> None:
    """Do what was posted until now. On that loop only."""
    box = _boxes.get(loop)
    if box is not None:
        box.read(loop)


class _Ring:
    """The loop was woken, and has heard it or not."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard = False


class _Mailbox:
    """A loop's. To wake it costs more than all else that a post does, and so it is done once for many.

    Whoever posts puts the letter in first and then looks whether the last ring is still unheard, the loop hears a ring
    first and then takes the letters out: none is left behind, wherever the two meet or Ctrl-C meets the one who posts.
    """

    __slots__ = ("_letters", "_looked_at", "_looking", "_reading", "_ring")

    def __init__(self) -> None:
        self._letters: deque[tuple[contextvars.Context, Callable[[], None]]] = deque()
        self._ring: _Ring | None = None
        self._looking = False
        self._looked_at = -math.inf
        self._reading = False

    def post(
        self, loop: asyncio.AbstractEventLoop, action: Callable[[], None], context: contextvars.Context, *, urgent: bool
    ) -> None:
        """Put a letter in, and ring unless the loop is about to look; raises RuntimeError if it is closed."""
        self._letters.append((context, action))
        last = self._ring
        coming = (last is not None and not last.heard) or (self._looking and not urgent)
        if not coming or loop.is_closed():
            ring = _Ring()
            loop.call_soon_threadsafe(self._answer, loop, ring)
            self._ring = ring

    def clear(self) -> None:
        """Forget what nobody will read."""
        self._letters.clear()

    def _answer(self, loop: asyncio.AbstractEventLoop, ring: _Ring) -> None:
        ring.heard = True
        now = loop.time()
        if now - self._looked_at < LOOK_AGAIN_S and not self._looking:
            self._look_again(loop)
        self._looked_at = now
        self.read(loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(LOOK_AGAIN_S, self._look, loop)
        self._looking = True  # last: Ctrl-C in between may leave a look too many, and no promise that nobody keeps

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = False  # first, as a ring is heard first
        if self._letters:
            self._look_again(loop)
            self.read(loop)

    def read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what the letters say, those too that come meanwhile; each after the one before it is done."""
        if self._reading:
            return
        try:
            self._reading = True
            while self._letters:
                self._do(loop, *self._letters.popleft())
        finally:
            self._reading = False

    def _do(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context, action: Callable[[], None]) -> None:
        try:
            context.run(action)
        except Exception as error:  # noqa: BLE001  as the loop itself treats a callback's
            loop.call_exception_handler({"message": f"Exception in {action!r}", "exception": error})
        except BaseException:
            loop.call_soon(self.read, loop)  # Ctrl-C ends the loop, or who catches it goes on
            raise


_boxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox] = weakref.WeakKeyDictionary()
