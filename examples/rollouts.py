"""Rollouts for reinforcement learning: groups of one task each, with updates of the weights while they run.

Every group is a kind of its own, so that the gate learns its prompt, which all of the group share in the cache, and
counts it once. When a group is complete, the trainer takes it and updates the weights: `gate.hold()` waits until no
call is in flight and lets none begin. The rollouts of other groups keep their places, wait at their next turn, and go
on with the new weights.

pip install 'concur-agents[openai]'
VLLM_SERVER_DEV_MODE=1 vllm serve Qwen/Qwen3-8B --enable-prompt-tokens-details
python rollouts.py --model Qwen/Qwen3-8B --groups 32 --agents 8
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import TYPE_CHECKING

from openai import AsyncOpenAI

from concur_agents import ConcurGate

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

TURNS = 4


async def update_weights(version: int) -> None:
    """Stand-in for the end of the trainer's step.

    With vLLM's development server the calls go here: POST /start_weight_update, /update_weights and
    /finish_weight_update. Then POST /reset_prefix_cache: what is cached was computed with the old weights.
    """
    await asyncio.sleep(0.05)
    print(f"weights {version}")


async def main(url: str, model: str, groups: int, agents: int) -> None:
    key = os.environ.get("OPENAI_API_KEY", "EMPTY")
    version = 0
    async with ConcurGate(url) as gate, AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as ungated:
        client = gate.openai(ungated)

        async def rollout(task: str, seed: int) -> tuple[str, list[int]]:
            messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": task}]
            versions = []  # the weights that wrote each turn, for the trainer's importance weights
            for turn in range(TURNS):
                answer = await client.chat.completions.create(
                    model=model, messages=messages, seed=seed * TURNS + turn, temperature=1.0, max_completion_tokens=300
                )
                versions.append(version)
                messages.append({"role": "assistant", "content": answer.choices[0].message.content})
                messages.append({"role": "user", "content": "Check it, and improve it."})
            return str(messages[-2].get("content")), versions

        async def group(task: str) -> tuple[str, list[tuple[str, list[int]]]]:
            async with gate.TaskGroup() as tasks:
                rollouts = [tasks.create_task(rollout(task, seed), kind=task) for seed in range(agents)]
            return task, [done.result() for done in rollouts]

        async with asyncio.TaskGroup() as trained:  # one that fails ends the others
            running = [trained.create_task(group(f"Write a proof of theorem {n}.")) for n in range(1, groups + 1)]
            for ready in asyncio.as_completed(running):
                task, answers = await ready
                lengths = [len(text) for text, _ in answers]
                by = sorted({number for _, versions in answers for number in versions})
                print(f"{task}: {agents} rollouts of {lengths} characters by weights {by}")
                asked = time.monotonic()
                async with gate.hold():  # no call is in flight, and none begins
                    print(f"calls ended after {time.monotonic() - asked:.2f} s")
                    version += 1
                    await update_weights(version)
        stats = gate.stats()
        print(f"{stats.finished} rollouts, {stats.turns} turns, {version} updates")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--groups", type=int, default=8, help="how many tasks")
    parser.add_argument("--agents", type=int, default=8, help="how many rollouts of each")
    asyncio.run(main(**vars(parser.parse_args())))
