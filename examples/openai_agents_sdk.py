"""The OpenAI Agents SDK: a tool and a handoff, each run one agent of the gate.

`gate.openai` below the model makes every call a turn. For a model that takes no `AsyncOpenAI`, wrap the model instead,
`ConcurModel(gate, model)`; where models are out of reach, `Runner.run(…, hooks=ConcurRunHooks(gate))`. Both are in
`concur_agents.integrations.openai_agents`.

pip install 'concur-agents[openai-agents]'
vllm serve Qwen/Qwen3-8B --enable-auto-tool-choice --tool-call-parser hermes --enable-prompt-tokens-details
python openai_agents_sdk.py --model Qwen/Qwen3-8B --agents 200
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from concur_agents import ConcurGate

FILES = {path.name: path for path in sorted(Path(__file__).parent.glob("*.py"))}


@function_tool
async def outline(name: str) -> str:
    """The functions and classes of a script."""
    if name not in FILES:
        return f"No such script. There are: {', '.join(FILES)}"
    lines = FILES[name].read_text().splitlines()
    return "\n".join(line for line in lines if line.lstrip().startswith(("def ", "async def ", "class ")))


async def main(url: str, model: str, agents: int) -> None:
    set_tracing_disabled(disabled=True)  # or the SDK sends its traces to OpenAI
    key = os.environ.get("OPENAI_API_KEY", "EMPTY")
    async with ConcurGate(url) as gate, AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client:
        llm = OpenAIChatCompletionsModel(model, gate.openai(client))
        settings = ModelSettings(max_tokens=512)
        critic = Agent(
            "critic", instructions="Tell what is unclear.", model=llm, model_settings=settings, tools=[outline]
        )
        reader = Agent(
            "reader",
            instructions="Read the outline, then hand over to the critic.",
            model=llm,
            model_settings=settings,
            tools=[outline],
            handoffs=[critic],
        )

        async def review(name: str) -> str:
            result = await Runner.run(reader, f"Review {name}.", max_turns=20)
            return f"{name}, by the {result.last_agent.name}: {result.final_output}"

        names = [list(FILES)[n % len(FILES)] for n in range(agents)]
        for said in await gate.map(review, names, kind="reviewer", return_exceptions=True):
            print(f"{said}\n")
        stats = gate.stats()
        print(f"{stats.finished} agents, {stats.turns} turns, {stats.cached_tokens:,} prompt tokens from the cache")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--agents", type=int, default=32, help="how many agents to run")
    asyncio.run(main(**vars(parser.parse_args())))
