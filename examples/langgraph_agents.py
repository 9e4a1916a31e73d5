"""A batch of LangGraph agents that read files, admitted to a vLLM server as its KV cache allows.

Two lines of it are the gate's: `chat_openai` makes every call of the model a turn, `gate.graph` every run an agent.

pip install 'concur-agents[langchain,langgraph]'
vllm serve Qwen/Qwen3-8B --enable-auto-tool-choice --tool-call-parser hermes --enable-prompt-tokens-details
python langgraph_agents.py --model Qwen/Qwen3-8B --agents 200
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from concur_agents import ConcurGate
from concur_agents.integrations.langchain import chat_openai

FILES = {path.name: path for path in sorted(Path(__file__).parent.glob("*.py"))}


@tool
def read_lines(name: str, start: int) -> str:
    """Forty lines of a file, from line `start` on; the first line is 1."""
    if name not in FILES:
        return f"No such file. There are: {', '.join(FILES)}"
    first = max(start, 1) - 1
    return "\n".join(FILES[name].read_text().splitlines()[first : first + 40]) or "The file ends before."


async def main(url: str, model: str, agents: int) -> None:
    async with ConcurGate(url) as gate:
        llm = chat_openai(gate, model=model, max_completion_tokens=512).bind_tools([read_lines])

        async def think(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await llm.ainvoke(state["messages"])]}

        builder = StateGraph(MessagesState).add_node(think).add_node("tools", ToolNode([read_lines]))
        builder.add_edge(START, "think").add_conditional_edges("think", tools_condition).add_edge("tools", "think")
        graph = gate.graph(builder.compile(name="reader"))

        names = [list(FILES)[n % len(FILES)] for n in range(agents)]
        tasks: list[Any] = [
            {"messages": [("user", f"Read {name} to its end and tell what it does.")]} for name in names
        ]
        configs: list[Any] = [{"run_name": f"{name}-{n}"} for n, name in enumerate(names)]
        for name, result in zip(names, await graph.abatch(tasks, configs, return_exceptions=True), strict=True):
            print(f"{name}: {repr(result) if isinstance(result, Exception) else result['messages'][-1].text}\n")
        print(gate.stats())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--agents", type=int, default=32, help="how many agents to run")
    asyncio.run(main(**vars(parser.parse_args())))
