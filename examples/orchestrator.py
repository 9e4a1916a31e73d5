"""Orchestrators that start subagents: which of them share a place at the gate, and which need one of their own.

A lead plans, sends out researchers at once, and lets an editor work on their reports. Researchers are `gate.agent`s
inside the lead's: they share its place, and their tokens count there. So a lead never waits for a place that another
lead's subagents hold. The editor is `nested="new"`: long work, that waits for a place of its own like everyone else.
While it has it, the lead's place is lent to it.

pip install 'concur-agents[openai]'
vllm serve Qwen/Qwen3-8B --enable-prompt-tokens-details
python orchestrator.py --model Qwen/Qwen3-8B --agents 50
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

TOPICS = ("tides", "sails", "locks", "lighthouses", "ferries", "canals")


async def main(url: str, model: str, agents: int, subagents: int) -> None:
    key = os.environ.get("OPENAI_API_KEY", "EMPTY")
    async with ConcurGate(url) as gate, AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as ungated:
        client = gate.openai(ungated)

        async def say(messages: list[ChatCompletionMessageParam], text: str) -> str:
            """One turn of whoever is the current agent."""
            messages.append({"role": "user", "content": text})
            answer = await client.chat.completions.create(model=model, messages=messages, max_completion_tokens=400)
            said = answer.choices[0].message.content or ""
            messages.append({"role": "assistant", "content": said})
            return said

        async def research(topic: str, part: int) -> str:
            async with gate.agent(f"{topic}, part {part}", kind="researcher"):  # in the lead's place
                messages: list[ChatCompletionMessageParam] = []
                await say(messages, f"What is worth knowing of {topic}, part {part} of {subagents}?")
                return await say(messages, "Now report it in three sentences.")

        async def edit(topic: str, reports: list[str]) -> str:
            async with gate.agent(f"{topic}, edited", kind="editor", nested="new"):  # in a place of its own
                messages: list[ChatCompletionMessageParam] = []
                await say(messages, "Find what these reports repeat:\n\n" + "\n\n".join(reports))
                return await say(messages, "Now write one text of them.")

        async def lead(topic: str) -> str:
            messages: list[ChatCompletionMessageParam] = []
            await say(messages, f"Plan a page on {topic}, in {subagents} parts.")
            reports = await asyncio.gather(*(research(topic, part) for part in range(1, subagents + 1)))
            page = await edit(topic, reports)
            return await say(messages, f"Is this the page that you planned?\n\n{page}")

        topics = [TOPICS[n % len(TOPICS)] for n in range(agents)]
        for topic, verdict in zip(topics, await gate.map(lead, topics, kind="lead"), strict=True):
            print(f"{topic}: {verdict}\n")
        stats = gate.stats()
        print(f"{agents} leads, {stats.finished} places taken and given back, {stats.turns} turns")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--agents", type=int, default=12, help="how many orchestrators to run")
    parser.add_argument("--subagents", type=int, default=3, help="how many researchers each of them starts")
    asyncio.run(main(**vars(parser.parse_args())))
