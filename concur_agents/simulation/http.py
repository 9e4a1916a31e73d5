"""The OpenAI-compatible face over HTTP."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from concur_agents.simulation.api import OpenAIApi

LARGEST_BODY = 64 * 2**20
"""[bytes]"""
LAST_MOMENT_S = 0.1
"""What is under way at the end is given so long; 0 would mean for ever to aiohttp. [s]"""
WAITING_CONNECTIONS = 4096
"""Connections that may wait to be accepted; the kernel has a limit of its own (net.core.somaxconn)."""


def make_app(api: OpenAIApi) -> web.Application:
    """The server's application.

    Run it with `handler_cancellation`, or who goes away while the answer is not begun is not noticed.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        got = await api.handle(request.method, request.path, await request.read())
        headers = {"Content-Type": got.content_type, **got.headers}
        if isinstance(got.body, bytes):
            return web.Response(status=got.status, body=got.body, headers=headers)
        response = web.StreamResponse(status=got.status, headers={**headers, "Cache-Control": "no-cache"})
        try:
            await response.prepare(request)
            async for piece in got.body:
                await response.write(piece)
            await response.write_eof()
        except ConnectionResetError:
            pass  # nobody reads it any more
        finally:
            await got.body.aclose()
        return response

    app = web.Application(client_max_size=LARGEST_BODY)
    app.router.add_route("*", "/{path:.*}", answer)
    return app


@contextlib.asynccontextmanager
async def serving(api: OpenAIApi, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str, None]:
    """Listen as long as the context lasts; what is under way at its end is cut off.

    Args:
        api: What answers.
        host: Address to listen at; by default, this machine only is served.
        port: TCP port; 0 for a free one.

    Yields:
        The address, without a slash at its end.

    Raises:
        OSError: If the port is taken or the address is not this machine's.
    """
    runner = web.AppRunner(make_app(api), access_log=None, handler_cancellation=True, shutdown_timeout=LAST_MOMENT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=WAITING_CONNECTIONS).start()
        listening = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{listening}"
    finally:
        await runner.cleanup()
