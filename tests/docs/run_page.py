"""Runs the Python of a page as its reader would: `python run_page.py PAGE`, in an empty folder.

The blocks share their names and one event loop, in the order of the page. `http://localhost:8000` is an embedded
engine that serves the model that the page asks for.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import re
import sys
import threading
import types

from pages import ROOT, python_blocks  # beside this script

from concur_agents import ConcurGate
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.http import serving
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.running import RunningEngine

URL = "http://localhost:8000"
MODEL = re.compile(r"""\bmodel="([^"]+)"|\bMODEL = "([^"]+)"|\("([^"]+)", client\)""")
SPEED = 100.0
SMALLER = {"AGENTS = 32": "AGENTS = 4", "TURNS = 12": "TURNS = 4"}
"""What would take long, and shows the same with less."""

GIVEN = {
    "README.md": """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from openai import AsyncOpenAI
class State(TypedDict, total=False):
    text: str
builder = StateGraph(State).add_node("think", lambda state: state).add_edge(START, "think")
tasks = ["why", "how"]
async def run_my_agent(): ...
async def solve(task): ...
""",
}
"""What a page takes for the reader's own, by its name."""

THEN = {
    "docs/batches.md": """
import pathlib
import concur_agents
assert results == ["WHY", "HOW", "WHO"]
assert pathlib.Path("solved.jsonl").read_text().count("\\n") == 4
assert gather is concur_agents.gather
main()
""",
    "docs/langchain.md": """
assert len(answers) == 20
assert answer.content if hasattr(answer, "content") else answer["messages"][-1].content
assert [gate.stats().finished for gate in gates] == [20, 1, 1, 1, 1]
assert all(gate.stats().turns for gate in gates[:3])
assert gates[4].stats().turns == 1
""",
    "docs/openai-agents.md": """
assert len(answers) == 20
stats = gate.stats()
assert (stats.finished, stats.active, stats.running) == (22, 0, 0)
assert stats.turns > 40
""",
}
"""What a page's code comes to; `gates` are those that it has made, one after the other."""


@contextlib.contextmanager
def an_engine(model):
    """A server in a thread of its own, as fast as can be asked of one process."""
    loop = asyncio.new_event_loop()
    began, over, where = threading.Event(), asyncio.Event(), []

    async def serve():
        engine = EngineProfile.from_hardware("qwen3-8b", "rtx-4090").engine()
        async with serving(OpenAIApi(RunningEngine(engine, speed=SPEED), model=model, version="0.32.0")) as url:
            where.append(url)
            began.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    began.wait(10)
    try:
        yield where[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def run_blocks(name, blocks, url):
    page, here = types.ModuleType("__main__"), sys.modules["__main__"]
    sys.modules["__main__"] = page  # as in a script; LangGraph resolves annotations by the module of a class
    names, gates = vars(page), []
    exec(compile(GIVEN.get(name, ""), "given", "exec"), names)
    with asyncio.Runner() as runner:
        for line, text in blocks:
            # As many empty lines before it as there are on the page, so that a traceback tells the page's own lines.
            source = "\n" * line + text.replace(URL, url)
            for whole, part in SMALLER.items():
                source = source.replace(whole, part)
            code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(types.FunctionType(code, names)())
            else:
                exec(code, names)
            gates += [gate for gate in names.values() if isinstance(gate, ConcurGate) and gate not in gates]
        exec(compile(THEN.get(name, ""), "then", "exec"), {**names, "gates": gates})
        for gate in gates:
            if gate.admission.live:
                raise AssertionError(f"{name} leaves agents behind: {gate}")
            runner.run(gate.aclose())
    sys.modules["__main__"] = here


def main(name):
    blocks = [(block.line, block.text) for block in python_blocks(ROOT / name)]
    asked = [next(filter(None, found)) for _, text in blocks for found in MODEL.findall(text)]
    with an_engine(asked[0] if asked else "qwen3") as url:
        run_blocks(name, blocks, url)


if __name__ == "__main__":
    main(sys.argv[1])
