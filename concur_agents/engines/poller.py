"""Asks a server for its metrics again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from concur_agents.engines.page import HttpPage, metrics_url, shown_url
from concur_agents.engines.vllm import read_vllm
from concur_agents.engines.window import Window
from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from concur_agents.engines.snapshot import EngineSnapshot


class Poller:
    """Polls one server's metrics page.

    Args:
        url: The server, as `metrics_url` takes it.
        interval_s: Pause between the end of one poll and the start of the next. [s]
        on_snapshot: Called by `run` with each snapshot.
        on_failure: Called by `run` with each failure.
        ours_in_flight: How many requests of ours are on the server now; see `Window.add`.
        timeout_s: How long one poll may take, from the first byte sent to the last byte read. [s]
        fetch: Gets the text of the page, raising MetricsError if it cannot; over HTTP if not given. A time limit
            is set around it.

    Attributes:
        url: The address of the page as it may be shown: without user, password and query.

    Raises:
        ValueError: If `url` is no http or https address, or a time is not above 0.
    """

    def __init__(
        self,
        url: str,
        *,
        interval_s: float,
        on_snapshot: Callable[[EngineSnapshot], None],
        on_failure: Callable[[MetricsError], None],
        ours_in_flight: Callable[[], int],
        timeout_s: float = 5.0,
        fetch: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        if not interval_s > 0 or not timeout_s > 0:
            raise ValueError(f"a poller needs times above 0: got interval_s={interval_s}, timeout_s={timeout_s}")
        self.url = shown_url(metrics_url(url))
        self._interval_s = interval_s
        self._on_snapshot = on_snapshot
        self._on_failure = on_failure
        self._ours_in_flight = ours_in_flight
        self._timeout_s = timeout_s
        self._page = HttpPage(url)
        self._fetch = self._page if fetch is None else fetch
        self._window = Window()

    async def poll_once(self) -> EngineSnapshot:
        """Reads the page once.

        Whoever calls this without `run` calls `aclose` in the end.

        Raises:
            MetricsError: If there is no page, not in time, or none that can be read; the message names the address
                and says what to do. Nothing else is raised, whatever the server does.
        """
        before = self._ours_in_flight()
        try:
            async with asyncio.timeout(self._timeout_s):
                text = await self._fetch()
            readings = read_vllm(text)
        except TimeoutError:
            raise MetricsError(
                f"cannot read {self.url}: no whole page came within {self._timeout_s:g} s: is the server stuck or "
                "out of reach?"
            ) from None
        except MetricsError as error:
            raise MetricsError(f"cannot read {self.url}: {error}") from None
        # The page was made at some moment in between: nothing of ours was there only if that holds on both sides.
        ours = max(before, self._ours_in_flight())
        return self._window.add(asyncio.get_running_loop().time(), readings, ours_in_flight=ours)

    async def run(self) -> None:
        """Polls until cancelled, and then leaves no connection behind.

        What a callback raises ends it.
        """
        try:
            while True:
                try:
                    snapshot = await self.poll_once()
                except MetricsError as error:
                    self._on_failure(error)
                else:
                    self._on_snapshot(snapshot)
                await asyncio.sleep(self._interval_s)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Gives the connection up, if there is one. May be called at any time, and again."""
        await self._page.aclose()
