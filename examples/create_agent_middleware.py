"""LangChain's `create_agent` with any chat model: the middleware makes each of its calls a turn, and counts its tokens.

`gate.graph` around the agent makes every run of it one agent of the gate. With a `ChatOpenAI`, `chat_openai` does
without the middleware: see langgraph_agents.py.

pip install 'concur-agents[langchain,langgraph]'
vllm serve Qwen/Qwen3-8B --enable-auto-tool-choice --tool-call-parser hermes --enable-prompt-tokens-details
python create_agent_middleware.py --model Qwen/Qwen3-8B --agents 200
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from concur_agents import ConcurGate
from concur_agents.integrations.langchain import ConcurMiddleware

WORDS = ("gate.graph", "gate.map", "gate.hold", "asyncio.gather", "AsyncOpenAI", "Semaphore")


@tool
def grep(text: str) -> str:
    """The lines of the example scripts that hold a text, with file and line number; at most fifty."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    lines = [(file.name, at, line) for file in files for at, line in enumerate(file.read_text().splitlines(), 1)]
    found = [f"{name}:{at}: {line.strip()}" for name, at, line in lines if text in line]
    return "\n".join(found[:50]) or "No line holds it."


async def main(url: str, model: str, agents: int) -> None:
    llm = ChatOpenAI(
        model=model,
        base_url=f"{url}/v1",
        api_key=lambda: os.environ.get("OPENAI_API_KEY", "EMPTY"),
        stream_usage=True,  # or streams tell no tokens
        max_completion_tokens=512,
    )
    async with ConcurGate(url) as gate:
        agent = create_agent(
            llm, [grep], system_prompt="Look it up, then answer in a sentence.", middleware=[ConcurMiddleware(gate)]
        )
        gated = gate.graph(agent, kind="grepper")

        async def ask(word: str) -> str:
            question: Any = {"messages": [("user", f"What do the example scripts use {word} for?")]}
            answer = await gated.ainvoke(question)
            return f"{word}: {answer['messages'][-1].text}"

        for said in await asyncio.gather(*(ask(WORDS[n % len(WORDS)]) for n in range(agents))):
            print(f"{said}\n")
        stats = gate.stats()
        print(f"{stats.finished} agents, {stats.turns} turns, {stats.cached_tokens:,} prompt tokens from the cache")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--agents", type=int, default=32, help="how many agents to run")
    asyncio.run(main(**vars(parser.parse_args())))
