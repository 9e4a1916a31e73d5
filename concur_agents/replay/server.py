"""The live server that a trace is replayed on: its model, its counters, whether it is idle."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import openai

from concur_agents.engines import metrics_url, read_vllm
from concur_agents.engines.page import HttpPage, shown_url
from concur_agents.errors import ConcurError, MetricsError
from concur_agents.replay.agent import ReplayClient
from concur_agents.replay.prompt import IDS
from concur_agents.replay.results import EngineInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from concur_agents.engines import EngineReading

# A thrashing server can take very long for a turn; one that takes this long has hung. [s]
TURN_LIMIT_S = 3600.0
PAGE_LIMIT_S = 10.0
POLL_S = 0.5
LINE = 300  # characters of an error in a report


class ReplayError(ConcurError):
    """A replay cannot start or go on; the message says what to do."""


class LiveServer:
    """A server that answers and has the model; `open_server` makes one.

    Attributes:
        info: What it says of itself.
        url: Its address as given, with what may be secret in it.
        client: Calls it.
        fetch_metrics: Gets its metrics page, if that is not to be had over HTTP.
        returns_ids: Whether completions tell the ids of their tokens. If not, the fed-back outputs are filler, and
            the cache cannot reuse them.
    """

    def __init__(
        self, url: str, client: ReplayClient, *, fetch_metrics: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        self.url = url
        self.client = client
        self.fetch_metrics = fetch_metrics
        self.info = EngineInfo(url=shown_url(url), model="")
        self.returns_ids = False
        self._page = HttpPage(url)

    async def readings(self) -> tuple[EngineReading, ...]:
        """Each engine's values now.

        Raises:
            MetricsError: If they cannot be had; the message names the address.
        """
        shown = shown_url(metrics_url(self.url))
        try:
            async with asyncio.timeout(PAGE_LIMIT_S):
                return read_vllm(await self.metrics_text())
        except TimeoutError:
            raise MetricsError(f"cannot read {shown}: no whole page came within {PAGE_LIMIT_S:g} s") from None
        except MetricsError as error:
            raise MetricsError(f"cannot read {shown}: {error}") from None

    async def metrics_text(self) -> str:
        """The text of its metrics page; there is no time limit here.

        Raises:
            MetricsError: If it cannot be had.
        """
        return await (self.fetch_metrics or self._page)()

    async def wait_until_idle(self, limit_s: float) -> None:
        """Wait until no request runs or waits on the server.

        Args:
            limit_s: How long to wait at most. [s]

        Raises:
            ReplayError: If some still do then.
            MetricsError: If its metrics cannot be had.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while busy := _busy(await self.readings()):
            if loop.time() >= deadline:
                raise ReplayError(
                    f"{busy:.0f} requests still run or wait at {self.info.url} after {limit_s:g} s: a comparison "
                    "needs the server to itself; stop its other clients and try again"
                )
            await asyncio.sleep(POLL_S)

    def told(self, error: BaseException) -> str:
        """An error's kind and message in a line, without the API key and the password, which some servers repeat."""
        text = " ".join(f"{type(error).__name__}: {error}".split()).replace(self.client.api_key, "[API key]")
        for password in _passwords(self.url):
            text = text.replace(password, "[password]")
        return text if len(text) <= LINE else text[: LINE - 1] + "…"

    async def aclose(self) -> None:
        """Give its connections up."""
        await self._page.aclose()
        await self.client.close()

    async def meet(self, model_name: str | None) -> None:
        """Find the model, try it with one token, and note what the server says of itself.

        Raises:
            ReplayError: If there is no such model or it does not answer.
            MetricsError: If its metrics cannot be had.
        """
        client = self.client.with_options(max_retries=0)  # a wrong port is told at once
        try:
            models = {model.id: model async for model in client.models.list()}
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        if not models:
            raise ReplayError(f"{self.info.url} serves no model")
        model = models.get(model_name) if model_name else next(iter(models.values()))
        if model is None:
            raise ReplayError(f"{self.info.url} has no model {model_name!r}: it has {', '.join(sorted(models))}")
        # One request makes the server refresh gauges that aborted requests left behind (vllm#29928), and
        # a vLLM before its first step has no metrics.
        try:
            probe = await client.completions.create(
                model=model.id, prompt="", max_tokens=1, extra_body={"prompt": [IDS[0]], "return_token_ids": True}
            )
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        self.returns_ids = getattr(probe.choices[0], "token_ids", None) is not None
        engines = await self.readings()
        capacities = [engine.capacity_tokens for engine in engines]
        self.info = EngineInfo(
            url=self.info.url,
            model=model.id,
            version=await self._version(),
            capacity_tokens=round(sum(c for c in capacities if c)) if all(capacities) else None,
            block_size=engines[0].block_size,
            max_model_len=getattr(model, "max_model_len", None),
        )

    async def _version(self) -> str | None:
        address = metrics_url(self.url).removesuffix("/metrics") + "/version"
        try:
            answer = await self.client.get(address, cast_to=object)
        except openai.OpenAIError:
            return None  # not every server has this page, and nothing hangs on it
        version = answer.get("version") if isinstance(answer, dict) else None
        return version if isinstance(version, str) else None

    def _explained(self, error: openai.OpenAIError) -> ReplayError:
        if isinstance(error, openai.APIConnectionError):
            return ReplayError(f"nothing answers at {self.info.url}: is the server up, is the port right?")
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ReplayError(f"{self.info.url} refuses the API key: set the environment variable OPENAI_API_KEY")
        if isinstance(error, openai.NotFoundError):
            return ReplayError(f"{self.info.url} has no OpenAI API (404): give the address of a vLLM server")
        return ReplayError(f"{self.info.url} does not complete a prompt: {self.told(error)}")


def _passwords(url: str) -> tuple[str, ...]:
    """What there is of a password in an address, in each form in which it is sent."""
    parts = urlsplit(url)
    if not parts.password:
        return ()
    user, password = unquote(parts.username or ""), unquote(parts.password)
    return b64encode(f"{user}:{password}".encode()).decode(), parts.password, password


def _busy(engines: Iterable[EngineReading]) -> float:
    return sum((engine.running or 0.0) + (engine.waiting or 0.0) for engine in engines)


@asynccontextmanager
async def open_server(url: str, *, model_name: str | None, api_key: str) -> AsyncIterator[LiveServer]:
    """Meet a server, and leave no connection behind.

    Args:
        url: Its address; `/v1` at the end may be left on.
        model_name: The model to ask; None: the first of its list.
        api_key: Sent to it and never shown.

    Raises:
        ValueError: If `url` is no http or https address.
        ReplayError: If it does not answer, or has not the model.
        MetricsError: If its metrics cannot be had.
    """
    address = metrics_url(url)
    if not address.endswith("/metrics"):
        raise ValueError("the address of the server cannot have a query: give scheme, host, port and path")
    base = address.removesuffix("/metrics")
    client = ReplayClient(base_url=f"{base}/v1", api_key=api_key, timeout=TURN_LIMIT_S)
    server = LiveServer(base, client)
    try:
        await server.meet(model_name)
        yield server
    finally:
        await server.aclose()
