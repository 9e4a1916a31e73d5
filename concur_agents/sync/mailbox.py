"""What threads post to an event loop: in order, and waking it once for all that is posted before it comes to look."""

from __future__ import annotations

import contextvars
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def post(
    loop: asyncio.AbstractEventLoop, action: Callable[[], None], context: contextvars.Context | None = None
) -> bool:
    """Let something be done on a loop, in a copy of this context or in that one, and do not wait for it.

    Returns:
        False if the loop is closed.
    """
    box = _boxes.get(loop)
    if box is None:
        box = _boxes.setdefault(loop, _Mailbox())
    try:
        box.post(loop, action, context or contextvars.copy_context())
    except RuntimeError:
        box.clear()
        return False
    return True


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

    __slots__ = ("_letters", "_ring")

    def __init__(self) -> None:
        self._letters: deque[tuple[contextvars.Context, Callable[[], None]]] = deque()
        self._ring: _Ring | None = None

    def post(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None], context: contextvars.Context) -> None:
        """Put a letter in, and ring unless the loop is about to look; raises RuntimeError if it is closed."""
        self._letters.append((context, action))
        last = self._ring
        if last is None or last.heard or loop.is_closed():
            ring = _Ring()
            loop.call_soon_threadsafe(self._empty, loop, ring)
            self._ring = ring

    def clear(self) -> None:
        """Forget what nobody will read."""
        self._letters.clear()

    def _empty(self, loop: asyncio.AbstractEventLoop, ring: _Ring) -> None:
        ring.heard = True
        while self._letters:
            context, action = self._letters.popleft()
            try:
                context.run(action)
            except Exception as error:  # noqa: BLE001  as the loop itself treats a callback's
                loop.call_exception_handler({"message": f"Exception in {action!r}", "exception": error})
            except BaseException:
                loop.call_soon(self._empty, loop, ring)  # Ctrl-C ends the loop, or who catches it goes on
                raise


_boxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox] = weakref.WeakKeyDictionary()
