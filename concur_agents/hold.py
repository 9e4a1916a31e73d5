"""Turns held back while something is done to the server that no call may be in flight for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Hold:
    """Lets no turn begin while anybody holds, and knows when the last one in flight has ended.

    Args:
        running: How many agents have a turn in flight.
    """

    def __init__(self, running: Callable[[], int]) -> None:
        self._running = running
        self._holders = 0
        self._released = asyncio.Event()
        self._quiet = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether turns have to wait."""
        return self._holders > 0

    async def wait_until_released(self) -> None:
        """Wait until nobody holds any more."""
        while self._holders:
            await self._released.wait()

    async def acquire(self) -> None:
        """Let no turn begin from now on, and wait until none is in flight. Cancelled, it is as if never asked."""
        self._holders += 1
        self._released.clear()
        try:
            while self._running():
                self._quiet.clear()
                await self._quiet.wait()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Hold no longer; turns begin when the last holder is gone."""
        self._holders -= 1
        if not self._holders:
            self._released.set()

    def look(self) -> None:
        """Take note that a turn or an agent has ended."""
        if self._holders and not self._running():
            self._quiet.set()
