"""An engine that runs on an event loop: requests are awaited, and the loop's clock drives it.

On a `VirtualLoop` that is virtual time; on any other the real one, or a multiple of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from concur_agents.simulation.engine import FirstToken
from concur_agents.simulation.request import Phase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from concur_agents.simulation.content import Prompt
    from concur_agents.simulation.counters import Counters
    from concur_agents.simulation.engine import Engine
    from concur_agents.simulation.request import Request

STREAM_INTERVAL_S = 0.1
"""How often a stream looks for new tokens. One look a step would cost more than the step is long. [s]"""
GATHER_S = 1e-6
"""An idle engine is let start this long after a request came: all that come at one instant of virtual time are then in
its first step. [s]"""


class RunningEngine:
    """An engine on the running event loop's clock.

    Args:
        engine: The engine; from now on nobody else may send to it or advance it.
        speed: Engine seconds a second of the loop's clock.

    Attributes:
        engine: The engine.

    Raises:
        ValueError: If `speed` is not above 0.
    """

    def __init__(self, engine: Engine, *, speed: float = 1.0) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError(f"a speed of {speed}: give a number above 0, 1 for the time of the real hardware")
        self.engine = engine
        self._speed = speed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._latest = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._open: dict[Request, Generation] = {}

    def now(self) -> float:
        """Engine seconds since it was first used; never goes back.

        Raises:
            RuntimeError: If it is used on another event loop than before.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError("this engine runs on another event loop: make one for each loop")
            self._loop = loop
            self._began = loop.time()
        self._latest = max(self._latest, (loop.time() - self._began) * self._speed)
        return self._latest

    def open(self, prompt: Prompt, max_output_tokens: int, *, content: Prompt | None = None) -> Generation:
        """Send a request.

        Args:
            prompt: What is asked.
            max_output_tokens: Length of the answer. [tokens]
            content: Prompt and answer as one, see `Engine.submit`.

        Returns:
            The request on its way; whoever loses interest calls its `abort`.

        Raises:
            RequestRefused: If the engine can never serve it.
        """
        request = self.engine.submit(self.now(), prompt, max_output_tokens, content=content)
        generation = self._open[request] = Generation(self, request)
        self._arm()
        return generation

    async def generate(self, prompt: Prompt, max_output_tokens: int, *, content: Prompt | None = None) -> Request:
        """Send a request and wait for its end; cancelling aborts it.

        Args:
            prompt: What is asked.
            max_output_tokens: Length of the answer. [tokens]
            content: Prompt and answer as one, see `Engine.submit`.

        Returns:
            The finished request, with its usage and times.

        Raises:
            RequestRefused: If the engine can never serve it.
        """
        generation = self.open(prompt, max_output_tokens, content=content)
        try:
            return await generation.finished()
        finally:
            generation.abort()

    def counters(self) -> Counters:
        """What the engine tells about itself now."""
        self.advance()
        return self.engine.counters

    def advance(self) -> None:
        """Bring the engine to the present, and wake who waited for what happened."""
        for event in self.engine.advance(self.now()):
            generation = self._open.get(event.request)
            if generation is None:
                continue  # aborted, and over before the engine saw that
            if isinstance(event, FirstToken):
                generation.note_first_token()
            else:
                del self._open[event.request]
                generation.note_finished()
        self._arm()

    def abort(self, request: Request) -> None:
        """Give up a request; one that is over is left alone."""
        if self._open.pop(request, None) is not None:
            self.engine.abort(self.now(), request)
            self._arm()

    def _arm(self) -> None:
        """See to it that the engine is advanced when something happens next."""
        due = self.engine.next_event()
        loop = self._loop
        if due is None or loop is None:
            return
        when = self._began + due / self._speed
        if due <= self._latest:
            when = loop.time() + GATHER_S
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._wake, due)

    def _wake(self, due: float) -> None:
        self._timer = None
        self._latest = max(self._latest, due)  # the loop's clock, rounded, may be a hair before it, and stands
        self.advance()


class Generation:
    """A request on its way; made by `RunningEngine.open`.

    Attributes:
        request: The request, to be read only.
    """

    def __init__(self, running: RunningEngine, request: Request) -> None:
        self.request = request
        self._running = running
        loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = loop.create_future()
        self._done: asyncio.Future[None] = loop.create_future()

    async def finished(self) -> Request:
        """Wait for the last token.

        Raises:
            asyncio.CancelledError: Also if the request was aborted.
        """
        await asyncio.shield(self._done)
        return self.request

    async def tokens(self) -> AsyncGenerator[int, None]:
        """How many output tokens there are, each time there are more; ends with all of them. Closing it aborts.

        Raises:
            asyncio.CancelledError: Also if the request was aborted.
        """
        running, request = self._running, self.request
        seen = 0
        try:
            await asyncio.shield(self._first)
            while True:
                running.advance()
                count = running.engine.generated(request)
                if count > seen:
                    seen = count
                    yield count
                if request.phase is Phase.FINISHED:
                    return
                await asyncio.wait([self._done], timeout=STREAM_INTERVAL_S)
                if self._done.cancelled():
                    raise asyncio.CancelledError
        finally:
            self.abort()

    def abort(self) -> None:
        """Give the request up; whoever waits for it is cancelled. One that is over is left alone."""
        self._running.abort(self.request)
        self._first.cancel()
        self._done.cancel()

    def note_first_token(self) -> None:
        """Wake who waits for the first token."""
        if not self._first.done():
            self._first.set_result(None)

    def note_finished(self) -> None:
        """Wake who waits for the end."""
        if not self._done.done():
            self._done.set_result(None)
