"""`concur watch`: servers live in the terminal, from their metrics alone."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from concur_agents.cli.say import INTERRUPTED, say, say_error
from concur_agents.engines import Poller
from concur_agents.errors import MetricsError
from concur_agents.telemetry.live.recent import STEP_S, Recent
from concur_agents.telemetry.live.screen import LINE_EVERY_S, open_screen
from concur_agents.telemetry.live.server_view import ServerShown, server_line, servers_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from concur_agents.engines import EngineSnapshot
    from concur_agents.telemetry.live.page import Page

HELP = """\
Watch vLLM servers: cache, queue and throughput, live in the terminal.

\b
  concur watch http://localhost:8000
  concur watch http://gpu-1:8000 http://gpu-2:8000

Only /metrics is read; nothing is sent to the models, and nothing has to be installed on the servers. A server that
goes away is shown as away, and comes back by itself. Ctrl-C ends it.

\b
  requests   running on the server, and waiting in its own queue
  KV usage   share of the cache that running requests hold; what is kept for agents in a tool wait counts as free
  hit rate   share of prompt tokens that were found in the cache, over the last 5 s; – without prompts
  tokens/s   output tokens
  prompts    prompt tokens a second, and the share of them that had to be computed

A hit rate that falls while the usage is high is what thrash looks like: agents push each other out of the cache.

Where the output is no terminal, a line is written every ten seconds for each server on which something changed. For
scripts there are --once, which fails if a server cannot be read, and --json:

\b
  concur watch --once --json http://localhost:8000 | jq .usage
"""


def watch(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="The servers, such as http://localhost:8000.")],
    *,
    interval: Annotated[
        float, typer.Option(metavar="S", min=0.25, max=3600, help="Seconds between two looks at a server.")
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look twice, one interval apart, print what was seen, and exit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each look at each server as a line of JSON.")] = False,
) -> None:
    """Watch servers; `HELP` is what people read of it."""
    try:
        servers = [WatchedServer(url, interval) for url in urls]
        if once:
            failed = asyncio.run(_once(servers, interval, as_json=as_json))
        else:
            failed = asyncio.run(_watch(servers, interval, as_json=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except ValueError as error:
        say_error(error)
        raise typer.Exit(1) from None
    raise typer.Exit(failed)


class _Shown(NamedTuple):
    servers: Sequence[ServerShown]

    def page(self, width: int, height: int) -> Page:
        return servers_page(self.servers, width, height)

    def lines(self) -> Sequence[tuple[str, str]]:
        return [(server_line(server), "") for server in self.servers]


class WatchedServer:
    """One server that is watched.

    Args:
        url: Its address.
        interval_s: Between two looks. [s]

    Attributes:
        asked: Set when the first look is over.
        on_news: Called after each look.

    Raises:
        ValueError: If `url` is no address.
    """

    def __init__(self, url: str, interval_s: float) -> None:
        self.poller = Poller(
            url,
            interval_s=interval_s,
            on_snapshot=self.on_snapshot,
            on_failure=self.on_failure,
            ours_in_flight=lambda: 1,  # whose requests are there is not known, so that its gauges are believed
        )
        self.url = self.poller.url.removesuffix("/metrics")
        self.asked = asyncio.Event()
        self.on_news: Callable[[WatchedServer], None] = lambda _: None
        self.snapshot: EngineSnapshot | None = None
        self.error: str | None = None
        self._away_since: float | None = None
        step_s = max(STEP_S, interval_s)
        self._running, self._usage, self._hit_rate = Recent(step_s), Recent(step_s), Recent(step_s)
        self._tokens_per_s = Recent(step_s)

    def on_snapshot(self, snapshot: EngineSnapshot) -> None:
        """It has answered."""
        now = asyncio.get_running_loop().time()
        self.snapshot, self.error, self._away_since = snapshot, None, None
        self._running.add(now, snapshot.running)
        self._usage.add(now, snapshot.usage)
        self._hit_rate.add(now, snapshot.hit_rate)
        self._tokens_per_s.add(now, self.look().output_tokens_per_s)
        self._tell()

    def on_failure(self, error: MetricsError) -> None:
        """It has not."""
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
        self.error = str(error).removeprefix(f"cannot read {self.poller.url}: ")
        self._tell()

    def look(self) -> ServerShown:
        """What is shown of it at this moment."""
        now = asyncio.get_running_loop().time()
        return ServerShown(
            url=self.url,
            snapshot=self.snapshot,
            error=self.error,
            away_s=0.0 if self._away_since is None else now - self._away_since,
            running=self._running.means(now),
            usage=self._usage.means(now),
            hit_rate=self._hit_rate.means(now),
            tokens_per_s=self._tokens_per_s.means(now),
        )

    def as_json(self) -> str:
        """The last look as one line."""
        said: dict[str, object] = {"url": self.url, "time": time.time()}
        if self.error is not None:
            said["error"] = self.error
        elif self.snapshot is not None:
            said |= {name: value for name, value in asdict(self.snapshot).items() if name != "time"}
        return json.dumps(said)

    def _tell(self) -> None:
        self.asked.set()
        self.on_news(self)


async def _once(servers: Sequence[WatchedServer], interval_s: float, *, as_json: bool) -> int:
    """Print one reading of each server.

    Returns:
        The exit status: 1 if any could not be read.
    """
    for look in range(2):
        await asyncio.gather(*(_look_once(server) for server in servers))
        if look == 0:
            await asyncio.sleep(interval_s)
    for server in servers:
        if as_json:
            _print_json(server)
        elif server.error is None:
            typer.echo(server_line(server.look()))
        if server.error is not None:
            say(f"error: {server.url}: {server.error}")
        await server.poller.aclose()
    return int(any(server.error is not None for server in servers))


async def _look_once(server: WatchedServer) -> None:
    try:
        snapshot = await server.poller.poll_once()
    except MetricsError as error:
        server.on_failure(error)
    else:
        server.on_snapshot(snapshot)


async def _watch(servers: Sequence[WatchedServer], interval_s: float, *, as_json: bool) -> int:
    """Show the servers until it is interrupted.

    Returns:
        The exit status if nobody can see it any more: 1.
    """
    tasks = [asyncio.create_task(server.poller.run()) for server in servers]
    if as_json:
        for server in servers:
            server.on_news = _print_json
    else:
        tasks.append(asyncio.create_task(_show(servers, interval_s)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()
    return 1


async def _show(servers: Sequence[WatchedServer], interval_s: float) -> None:
    screen = open_screen(sys.stdout, line_every_s=max(LINE_EVERY_S, interval_s))
    asked = asyncio.gather(*(server.asked.wait() for server in servers))
    try:
        while not screen.gone:
            screen.show(_Shown([server.look() for server in servers]))
            if asked.done():
                await asyncio.sleep(screen.every_s)
            else:
                await asyncio.wait({asked}, timeout=screen.every_s)
    finally:
        asked.cancel()
        screen.close()


def _print_json(server: WatchedServer) -> None:
    typer.echo(server.as_json())
