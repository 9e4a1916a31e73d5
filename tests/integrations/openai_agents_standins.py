"""Agents of the OpenAI Agents SDK to run at a gate: a model that follows a script, and one on the embedded engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents import Agent as SdkAgent
from agents import (
    GuardrailFunctionOutput,
    InputGuardrail,
    Model,
    ModelResponse,
    OpenAIChatCompletionsModel,
    RunConfig,
    Usage,
    function_tool,
    set_tracing_disabled,
)
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

set_tracing_disabled(True)
CONFIG = RunConfig(tracing_disabled=True)

PROMPT, OUTPUT, CACHED = 100, 7, 48


def text(answer: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(text=answer, type="output_text", annotations=[])]
    return ResponseOutputMessage(id="m", content=content, role="assistant", status="completed", type="message")


def call(tool: str, **arguments: Any) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        arguments=json.dumps(arguments), call_id=f"call-{next(_IDS)}", name=tool, type="function_call"
    )


_IDS = iter(range(10**9))


class Scripted(Model):
    """Answers from a script: an item a call, `text(…)` or `call(…)`, or an exception to raise.

    Args:
        script: What to answer; the last one for ever.
        takes_s: How long an answer takes.
        stall: Never come to the end of a stream.
        gate: Where to look, at each call, who calls and how many turns run.
        cached: The cached tokens that it tells.
        told: Whether it tells any usage.
    """

    def __init__(
        self,
        *script: Any,
        takes_s: float = 1.0,
        stall: bool = False,
        gate: Any = None,
        cached: int = CACHED,
        told: bool = True,
    ) -> None:
        self.script = list(script)
        self.takes_s = takes_s
        self.stall = stall
        self.gate = gate
        self.cached = cached
        self.told = told
        self.calls = 0
        self.running: list[int] = []
        self.agents: list[str | None] = []
        self.closed_streams = 0
        self.model = "scripted"
        self.closed = 0

    def _next(self) -> Any:
        self.calls += 1
        if self.gate is not None:
            agent = self.gate.current()
            self.running.append(self.gate.stats().running)
            self.agents.append(agent.name if agent else None)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        item = self._next()
        n = self.calls
        await asyncio.sleep(self.takes_s)
        if isinstance(item, BaseException):
            raise item
        counts = self._usage(n)
        usage = Usage(requests=1, **vars(counts)) if counts is not None else Usage()
        return ModelResponse(output=[item], usage=usage, response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        item = self._next()
        n = self.calls
        try:
            yield ResponseCreatedEvent(response=_response([], None), sequence_number=0, type="response.created")
            await asyncio.sleep(self.takes_s / 2)
            if self.stall:
                await asyncio.Event().wait()
            await asyncio.sleep(self.takes_s / 2)
            if isinstance(item, BaseException):
                raise item
            response = _response([item], self._usage(n))
            yield ResponseCompletedEvent(response=response, sequence_number=1, type="response.completed")
        finally:
            self.closed_streams += 1

    def _usage(self, n: int) -> ResponseUsage | None:
        if not self.told:
            return None
        return ResponseUsage(
            input_tokens=PROMPT + n,
            output_tokens=OUTPUT,
            total_tokens=PROMPT + n + OUTPUT,
            input_tokens_details=InputTokensDetails.model_validate(
                {"cached_tokens": self.cached, "cache_write_tokens": 0}
            ),
            output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        )

    async def close(self) -> None:
        self.closed += 1


def _response(output: list[Any], told: ResponseUsage | None) -> Response:
    return Response(
        id="r",
        created_at=0,
        model="scripted",
        object="response",
        output=output,
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=False,
        usage=told,
    )


@function_tool
async def look_up(word: str) -> str:
    """Look a word up.

    Args:
        word: What to look up.
    """
    await asyncio.sleep(2)
    return f"{word} is a word"


def agent(model: Any, **options: Any) -> SdkAgent:
    return SdkAgent(name=options.pop("name", "coder"), instructions="Be brief.", model=model, **options)


def tripping(after_s: float) -> InputGuardrail:
    """A guardrail beside the first call, that trips after a time."""

    async def check(context: Any, of: Any, given: Any) -> GuardrailFunctionOutput:
        await asyncio.sleep(after_s)
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    return InputGuardrail(guardrail_function=check)


def on_engine(server: Any, client: Any = None) -> OpenAIChatCompletionsModel:
    """The model of an embedded engine."""
    return OpenAIChatCompletionsModel(server.info.model, client or server.client)
