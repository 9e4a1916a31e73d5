"""The plain OpenAI SDK: an agent loop with tool calls, as a batch that goes on where it was stopped.

Each item of `gate.map` is an agent, each request of the gated client a turn. Finished answers are in the checkpoint
file: stop the script half-way and start it again, and only the others run.

pip install 'concur-agents[openai]'
vllm serve Qwen/Qwen3-8B --enable-auto-tool-choice --tool-call-parser hermes --enable-prompt-tokens-details
python openai_tools.py --model Qwen/Qwen3-8B --agents 200
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
from typing import TYPE_CHECKING, cast

from openai import AsyncOpenAI

from concur_agents import ConcurGate

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam

MOST_TURNS = 12
ORDERS = sqlite3.connect(":memory:")
ORDERS.execute("create table orders (customer integer, item text, price integer)")
ORDERS.executemany(
    "insert into orders values (?, ?, ?)", [(n % 40, ("rope", "sail", "oar")[n % 3], n * 37 % 101) for n in range(400)]
)
TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "orders_of",
        "description": "What a customer has ordered, with prices.",
        "parameters": {
            "type": "object",
            "properties": {"customer": {"type": "integer", "minimum": 0, "maximum": 39}},
            "required": ["customer"],
        },
    },
}


def orders_of(arguments: str) -> str:
    try:
        rows = ORDERS.execute("select item, price from orders where customer = :customer", json.loads(arguments))
    except (ValueError, sqlite3.Error) as error:
        return f"That did not work: {error}"  # the model may try again
    return json.dumps(rows.fetchall())


async def main(url: str, model: str, agents: int, checkpoint: str) -> None:
    key = os.environ.get("OPENAI_API_KEY", "EMPTY")
    async with ConcurGate(url) as gate, AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as ungated:
        client = gate.openai(ungated)

        async def answer(question: str) -> str:
            messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
            for _ in range(MOST_TURNS):
                completion = await client.chat.completions.create(
                    model=model, messages=messages, tools=[TOOL], max_completion_tokens=512
                )
                message = completion.choices[0].message
                if not message.tool_calls:
                    return message.content or ""
                messages.append(cast("ChatCompletionMessageParam", message.model_dump(exclude_none=True)))
                for call in message.tool_calls:
                    said = orders_of(call.function.arguments) if call.type == "function" else "There is no such tool."
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
            return "No answer within so many turns."

        questions = [f"Who has spent more, customer {n % 40} or customer {(n * 7 + 1) % 40}?" for n in range(agents)]
        answers = await gate.map(answer, questions, kind="clerk", checkpoint=checkpoint, retries=1, progress=True)
        for question, said in zip(questions, answers, strict=True):
            print(f"{question} {said}\n")
        print(f"{gate.stats().finished} agents ran, {len(answers)} answers are in {checkpoint}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the server, without /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--agents", type=int, default=32, help="how many questions to ask")
    parser.add_argument("--checkpoint", default="answers.jsonl", help="where finished answers are kept")
    asyncio.run(main(**vars(parser.parse_args())))
