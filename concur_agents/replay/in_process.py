"""The OpenAI client on an embedded engine in the same process: no socket between them, so that time can jump."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai

from concur_agents.errors import MetricsError
from concur_agents.replay.agent import ReplayClient
from concur_agents.replay.server import TURN_LIMIT_S, LiveServer
from concur_agents.replay.simulated import URL, engine_info
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from concur_agents.simulation.profile import EngineProfile
    from concur_agents.simulation.wire import Body

httpx: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""What the installed openai is built on, by its client's base class: 2 on httpx, 3 on httpx2; both may be there."""


def http_client(api: OpenAIApi) -> Any:
    """An HTTP client whose every request goes to `api`, for `AsyncOpenAI(http_client=…)`.

    Args:
        api: Answers, on the event loop that the client is used on.
    """
    return openai.DefaultAsyncHttpxClient(transport=_Transport(api))


class _Transport(httpx.AsyncBaseTransport):  # type: ignore[misc]
    def __init__(self, api: OpenAIApi) -> None:
        self._api = api

    async def handle_async_request(self, request: Any) -> Any:
        answer = await self._api.handle(request.method, request.url.path, await request.aread())
        headers: Mapping[str, str] = {"content-type": answer.content_type, **answer.headers}
        if isinstance(answer.body, bytes):
            return httpx.Response(answer.status, headers=headers, content=answer.body)
        return httpx.Response(answer.status, headers=headers, stream=_Stream(answer.body))


class _Stream(httpx.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


@asynccontextmanager
async def open_in_process(profile: EngineProfile) -> AsyncIterator[LiveServer]:
    """A new engine as a server to replay on, in this process and on this event loop's clock.

    Args:
        profile: The engine.
    """
    api = OpenAIApi(
        RunningEngine(profile.engine()),
        model=profile.name,
        version="embedded",
        clock=asyncio.get_running_loop().time,
    )

    async def fetch_metrics() -> str:
        answer = await api.handle("GET", "/metrics")
        if not isinstance(answer.body, bytes):
            raise MetricsError("the embedded engine has no metrics page")
        return answer.body.decode()

    client = ReplayClient(
        base_url=f"{URL}/v1", api_key="EMPTY", timeout=TURN_LIMIT_S, max_retries=0, http_client=http_client(api)
    )
    server = LiveServer(URL, client, fetch_metrics=fetch_metrics)
    try:
        await server.meet(None)
        server.info = engine_info(profile)
        yield server
    finally:
        await server.aclose()
