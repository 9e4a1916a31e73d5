"""The code in docs/langgraph.md runs as it stands there, one block after the other."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from pathlib import Path

from .langgraph_standins import since_1_2

PAGE = Path(__file__).parents[2] / "docs" / "langgraph.md"


@since_1_2  # draining
async def test_every_block_runs(monkeypatch):
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # LangGraph resolves annotations by the module of a class
    names = vars(page)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for number, block in enumerate(blocks):
        code = compile(block, f"langgraph.md, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = types.FunctionType(code, names)()
        if inspect.isawaitable(result):
            await result
    assert len(blocks) == 6
    assert names["gate"].admission.live == 0
    await names["gate"].aclose()
