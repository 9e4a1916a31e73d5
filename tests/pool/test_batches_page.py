"""The code in docs/batches.md runs as it stands there, one block after the other."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from pathlib import Path

import concur_agents

PAGE = Path(__file__).parents[2] / "docs" / "batches.md"


def test_every_block_runs(monkeypatch, tmp_path, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONCUR_DISABLED", "1")  # there is no server here
    names = {}

    async def run_all():
        for number, block in enumerate(blocks):
            code = compile(block, f"batches.md, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = types.FunctionType(code, names)()
            if inspect.isawaitable(result):
                await result

    asyncio.run(run_all())
    names["main"]()

    assert len(blocks) == 6
    assert names["results"] == ["WHY", "HOW", "WHO"]
    assert "['WHY', 'HOW', 'WHO']" in capsys.readouterr().out
    assert (tmp_path / "solved.jsonl").read_text().count("\n") == 4
    assert concur_agents.gather is names["gather"]
