"""Every block of docs/langchain.md runs, one after the other, as its reader would run it: on the embedded engine."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
from functools import partial
from pathlib import Path

import langchain_openai.chat_models.base as chat_models
import openai

import concur_agents
from concur_agents.replay.in_process import http_client
from concur_agents.simulation import Engine, LinearStepTime
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"

httpx = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


class FromThread(httpx.BaseTransport):
    """Takes the requests of a synchronous client to the engine's event loop."""

    def __init__(self, engine, loop):
        self._engine = engine
        self._loop = loop

    def handle_request(self, request):
        asked = self._engine.handle(request.method, request.url.path, request.read())
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        return httpx.Response(answer.status, headers={"content-type": answer.content_type}, content=answer.body)


def blocks():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_every_block_of_the_page_runs(monkeypatch):
    async def main():
        # Threads take part, so time is real, and steps of the engine take next to none of it.
        engine = OpenAIApi(RunningEngine(Engine(4000, LinearStepTime(1e-6, 1e-9))), model="qwen3", version="0")
        loop = asyncio.get_running_loop()
        gates = []

        async def fetch_metrics():
            return (await engine.handle("GET", "/metrics")).body.decode()

        def new_gate(*args, **kwargs):
            gates.append(Gate(*args, **kwargs, fetch_metrics=fetch_metrics))
            return gates[-1]

        Gate = concur_agents.ConcurGate  # noqa: N806  a class
        monkeypatch.setattr(concur_agents, "ConcurGate", new_gate)
        monkeypatch.setattr(chat_models, "_get_default_async_httpx_client", lambda *_: http_client(engine))
        sync_client = partial(openai.DefaultHttpxClient, transport=FromThread(engine, loop), verify=False)
        monkeypatch.setattr(chat_models, "_get_default_httpx_client", lambda *_: sync_client())
        names = {}
        for block in blocks():
            code = compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if inspect.isawaitable(running):
                await running
        return names, gates

    names, gates = asyncio.run(main())
    assert len(names["answers"]) == 20
    assert names["answer"]["messages"][-1].content
    assert len(gates) == 5
    assert [gate.admission.live for gate in gates] == [0] * 5
    assert [gate.stats().finished for gate in gates] == [20, 1, 1, 1, 1]
    assert all(gate.stats().turns for gate in gates[:3])
    assert gates[4].stats().turns == 1
