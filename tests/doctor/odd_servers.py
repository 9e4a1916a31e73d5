"""The embedded engine over loopback, and what is odd about a server laid over it, path by path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re

from aiohttp import web

from concur_agents.simulation import Engine, LinearStepTime
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine

KEY = "sk-doctor-secret"


class OddServer:
    """Use as an async context manager; `url` is where it listens.

    Attributes:
        odd: By path: a coroutine function of the request, which answers in place of the engine.
        changed: By path: a function of the engine's text, which gives the text that is sent.
        headers: Sent with every answer.
        key: What is wanted under /v1, as `vllm serve --api-key` does it.
        seen: Every request: path, headers and body.
    """

    def __init__(self):
        engine = Engine(2000, LinearStepTime(1e-4, 1e-8), max_model_len=8192)
        self.api = OpenAIApi(RunningEngine(engine), model="tiny", version="0.32.0")
        self.odd = {}
        self.changed = {}
        self.headers = {}
        self.key = None
        self.seen = []
        self.url = ""

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc):
        await self._runner.cleanup()

    def refuse(self, path, status, message="no"):
        self.odd[path] = lambda request: error(status, message)

    def completions(self):
        return [json.loads(body) for path, _, body in self.seen if path == "/v1/completions"]

    async def _answer(self, request):
        body = await request.read()
        self.seen.append((request.path, request.headers, body))
        sent = request.headers.get("Authorization")
        if self.key is not None and request.path.startswith("/v1") and sent != f"Bearer {self.key}":
            return error(401, f"not {sent}")
        if (odd := self.odd.get(request.path)) is not None:
            given = odd(request)
            return await given if asyncio.iscoroutine(given) else given
        got = await self.api.handle(request.method, request.path, body)
        said = got.body
        if not isinstance(said, bytes):
            async with contextlib.aclosing(said):
                said = b"".join([piece async for piece in said])
        if (change := self.changed.get(request.path)) is not None:
            said = change(said.decode()).encode()
        return web.Response(status=got.status, body=said, headers={"Content-Type": got.content_type, **self.headers})


def error(status, message="no"):
    return web.json_response({"error": {"message": message, "type": "Error", "code": status}}, status=status)


def without_details(text):
    """A completion as without --enable-prompt-tokens-details."""
    if text.startswith("data:"):
        return text
    said = json.loads(text)
    if "usage" in said:
        said["usage"]["prompt_tokens_details"] = None
    return json.dumps(said)


def with_engines(count):
    """A page on which every line of vLLM stands once for each engine, with the same numbers."""

    def change(page):
        lines = []
        for line in page.splitlines():
            several = 'engine="0"' in line and not line.startswith("#")
            lines += [line.replace('engine="0"', f'engine="{n}"') for n in range(count)] if several else [line]
        return "\n".join(lines) + "\n"

    return change


def setting(name, value):
    """A page on which a metric has another value."""
    return lambda page: re.sub(rf"^({re.escape(name)}(?:\{{.*\}})?) .*$", rf"\1 {value}", page, flags=re.MULTILINE)
