"""The tutorial's `agents.py`, put together as its reader does, and run on the clock of the embedded engine.

The engine is the one that the page starts, with the page's own options, but in the same process and in virtual time:
what takes two minutes on the page takes seconds here, and comes out the same each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import types

import openai
from docs.pages import DOCS, python_blocks

import concur_agents
import concur_agents.integrations.openai  # takes the real clients before they are replaced
from concur_agents.replay.in_process import http_client
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.running import RunningEngine
from concur_agents.simulation.virtual_time import run

PLAIN, GATED, LOGGED = (block.text for block in python_blocks(DOCS / "tutorial.md")[:3])
MAIN = PLAIN.index("async def main")
SERVER = {"model": "qwen3-8b", "hardware": "rtx-4090", "speed": 5.0}
"""The options of the page's `concur serve`."""


def printed(source, monkeypatch):
    """What `python agents.py` prints, stderr with its log included."""

    async def main():
        engine = EngineProfile.from_hardware(SERVER["model"], SERVER["hardware"]).engine()
        api = OpenAIApi(RunningEngine(engine, speed=SERVER["speed"]), model=SERVER["model"], version="0.32.0")

        async def fetch_metrics():
            return (await api.handle("GET", "/metrics")).body.decode()

        make_gate, make_client = concur_agents.ConcurGate, openai.AsyncOpenAI
        with monkeypatch.context() as changed:
            changed.setattr(concur_agents, "ConcurGate", lambda url: make_gate(url, fetch_metrics=fetch_metrics))
            changed.setattr(openai, "AsyncOpenAI", lambda **given: make_client(**given, http_client=http_client(api)))
            names = {"__name__": "agents"}
            exec(compile(source, "agents.py", "exec"), names)
        names["time"] = types.SimpleNamespace(monotonic=asyncio.get_running_loop().time)
        await names["main"]()

    said = io.StringIO()
    root, log = logging.getLogger(), logging.getLogger("concur_agents")
    before, level = root.handlers[:], log.level
    root.handlers.clear()  # `logging.basicConfig` makes one only where there is none
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run(main())
    finally:
        root.handlers[:] = before
        log.setLevel(level)
    return said.getvalue()
