"""The code in docs/openai-agents.md runs as it stands there, one block after the other, on the embedded engine."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import openai

import concur_agents
import concur_agents.integrations.openai  # takes the real clients before they are patched
from concur_agents.replay.in_process import http_client
from concur_agents.simulation import Engine, LinearStepTime
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine
from concur_agents.simulation.virtual_time import run

PAGE = Path(__file__).parents[2] / "docs" / "openai-agents.md"


def test_every_block_of_the_page_runs(monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

    async def main():
        engine = OpenAIApi(RunningEngine(Engine(4000, LinearStepTime(0.01, 1e-5))), model="qwen3", version="0")

        async def fetch_metrics():
            return (await engine.handle("GET", "/metrics")).body.decode()

        make_gate, make_client = concur_agents.ConcurGate, openai.AsyncOpenAI
        monkeypatch.setattr(
            concur_agents, "ConcurGate", lambda url: make_gate(url, controller="fixed:4", fetch_metrics=fetch_metrics)
        )
        monkeypatch.setattr(
            openai, "AsyncOpenAI", lambda **options: make_client(**options, http_client=http_client(engine))
        )
        names = {}
        for number, block in enumerate(blocks):
            code = compile(block, f"{PAGE.name}, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if inspect.isawaitable(running):
                await running
        return names, names["gate"].stats()

    names, stats = run(main())
    assert len(names["answers"]) == 20
    assert (stats.finished, stats.active, stats.running) == (22, 0, 0)
    assert stats.turns > 40
    assert "untouched calls look_up" in capsys.readouterr().out
