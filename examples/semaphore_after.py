"""A script with many agents, before and after: 64 at once, or as many as the cache of the server holds.

semaphore_before.py has an `asyncio.Semaphore`, semaphore_after.py a gate; README.md shows the difference.

pip install 'concur-agents[openai]'
vllm serve Qwen/Qwen3-8B --enable-prompt-tokens-details
python semaphore_before.py --model Qwen/Qwen3-8B --agents 200
python semaphore_after.py --model Qwen/Qwen3-8B --agents 200
"""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

from openai import AsyncOpenAI

from concur_agents import ConcurGate

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

TURNS = 4


async def main(url: str, model: str, agents: int) -> None:
    key = os.environ.get("OPENAI_API_KEY", "EMPTY")
    async with ConcurGate(url) as gate, AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as ungated:
        client = gate.openai(ungated)

        async def solve(task: str) -> str:
            async with gate.agent(task):
                said = ""
                messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": task}]
                for _ in range(TURNS):
                    answer = await client.chat.completions.create(
                        model=model, messages=messages, max_completion_tokens=300
                    )
                    said = answer.choices[0].message.content or ""
                    messages.append({"role": "assistant", "content": said})
                    messages.append({"role": "user", "content": "Go on."})
                return said

        stories = await asyncio.gather(*(solve(f"Write story {n}.") for n in range(agents)))
        print(f"{len(stories)} stories, the last of them: {stories[-1]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--agents", type=int, default=128, help="how many agents to run")
    asyncio.run(main(**vars(parser.parse_args())))
