"""An API over a small engine, and what tests ask it."""

from __future__ import annotations

import json

from concur_agents.simulation import Engine, LinearStepTime, SchedulerLimits
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.running import RunningEngine

MODEL = "tiny"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def make_api(*, blocks=1001, max_model_len=8192, speed=1.0, step=0.01, clock=lambda: 1.7e9, **more) -> OpenAIApi:
    engine = Engine(blocks, LinearStepTime(step=step), limits=SchedulerLimits(), max_model_len=max_model_len)
    return OpenAIApi(RunningEngine(engine, speed=speed), model=MODEL, version="0.32.0+test", clock=clock, **more)


async def ask(api, path, body=None, *, method="POST"):
    """Status and JSON of an answer in one piece."""
    answer = await api.handle(method, path, json.dumps(body).encode() if body is not None else b"")
    assert isinstance(answer.body, bytes)
    return answer.status, json.loads(answer.body)


async def chat(api, messages="Hello", **more):
    """The answer to a chat request that must be accepted."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    status, answer = await ask(api, "/v1/chat/completions", {"model": MODEL, "messages": messages, **more})
    assert status == 200, answer
    return answer


async def complete(api, prompt="Hello", **more):
    """The answer to a completion request that must be accepted."""
    status, answer = await ask(api, "/v1/completions", {"model": MODEL, "prompt": prompt, **more})
    assert status == 200, answer
    return answer


async def stream(api, path, body):
    """The events of a streamed answer, without the last, which must be [DONE]."""
    answer = await api.handle("POST", path, json.dumps({"model": MODEL, "stream": True, **body}).encode())
    assert answer.status == 200, answer.body
    assert answer.content_type.startswith("text/event-stream")
    events = [piece async for piece in answer.body]
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in events)
    assert events.pop() == b"data: [DONE]\n\n"
    return [json.loads(piece[6:]) for piece in events]
