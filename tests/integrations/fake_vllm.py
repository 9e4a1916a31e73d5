"""A vLLM that is not there: its OpenAI endpoints on loopback, with vLLM 0.32's own shapes and streams.

The fields and their order are what `model_dump_json` of vLLM's protocol classes gives
(entrypoints/openai/{chat_completion,completion,responses}/protocol.py), and the order of the events is that of
its serving.py. It answers each request with `text` (or a tool call, or JSON, where the request wants one).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATED = 1_795_000_000
MODEL = "tiny"


@dataclass
class Seen:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class FakeVllm:
    """The server: set what it is to answer, and look at what it was asked.

    Attributes:
        text: What it generates, one token a word.
        json: What it generates where the request wants JSON.
        usage: The numbers of tokens it tells: prompt, output, cached (None without
            `--enable-prompt-tokens-details`).
        usage_field: What stands in the place of `"usage": {…}` instead, right or wrong.
        force_include_usage: The flag `--enable-force-include-usage`.
        refusals: Status codes for the next requests, before any is served.
        refusal_headers: What a refusal says beside `retry-after-ms`.
        break_after: Cut the connection of a stream after so many events.
        gate: Cleared, every request waits before it is answered.
        stall_after: Send no more of a stream after so many events, until `flow` is set.
        line_end: What ends a line of a stream; servers may choose.
        gzip: Compress documents, as a proxy in front may do.
    """

    text: str = "the answer is 42"
    json: str = '{"answer":42}'
    usage: tuple[int, int, int | None] = (21, 4, 16)
    usage_field: dict[str, Any] | None = None
    force_include_usage: bool = False
    refusals: list[int] = field(default_factory=list)
    refusal_headers: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    stall_after: int | None = None
    flow: asyncio.Event = field(default_factory=asyncio.Event)
    line_end: str = "\n"
    gzip: bool = False
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    _arrival: asyncio.Event = field(default_factory=asyncio.Event)
    _ids: Iterator[int] = field(default_factory=itertools.count)

    async def start(self) -> web.AppRunner:
        """Listen on a free port of the loopback."""
        self.gate.set()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    async def received(self, requests: int) -> None:
        """Wait until so many requests have arrived."""
        while len(self.seen) < requests:
            self._arrival.clear()
            await self._arrival.wait()

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    # -------------------------------------------------------------- endpoints

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body, refused = await self._take(request)
        if refused is not None:
            return refused
        head = {"id": f"chatcmpl-{next(self._ids)}"}
        if body.get("stream"):
            return await self._stream(request, self._chat_events(head["id"], body), done=True)
        content, tool_calls = self._content(body), self._tool_calls(body)
        message = {"role": "assistant", "content": None if tool_calls else content}
        message |= dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
        if tool_calls:
            message["tool_calls"] = tool_calls
        choice = {"index": 0, "message": message | {"reasoning": None}, "logprobs": None}
        choice |= {"finish_reason": "tool_calls" if tool_calls else "stop"}
        choice |= dict.fromkeys(("stop_reason", "token_ids", "routed_experts"))
        answer = head | {"object": "chat.completion", "created": CREATED, "model": MODEL, "choices": [choice]}
        answer |= {"service_tier": None, "system_fingerprint": None} | self._usage_field(nulls=True)
        answer |= dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text"))
        return self._document(answer | dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics")))

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body, refused = await self._take(request)
        if refused is not None:
            return refused
        head = {"id": f"cmpl-{next(self._ids)}"}
        if body.get("stream"):
            return await self._stream(request, self._completion_events(head["id"], body), done=True)
        choice = {"index": 0, "text": self.text, "logprobs": None, "finish_reason": "length"}
        choice |= dict.fromkeys(("stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids"))
        choice["routed_experts"] = None
        answer = head | {"object": "text_completion", "created": CREATED, "model": MODEL, "choices": [choice]}
        answer |= {"service_tier": None, "system_fingerprint": None} | self._usage_field(nulls=True)
        return self._document(answer | dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics")))

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        body, refused = await self._take(request)
        if refused is not None:
            return refused
        response_id = f"resp_{next(self._ids)}"
        if body.get("stream"):
            return await self._stream(request, self._response_events(response_id, body), done=False)
        return self._document(self._response(response_id, self._content(body)))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        _, refused = await self._take(request)
        data = [{"index": 0, "object": "embedding", "embedding": [0.25, 0.5]}]
        usage = {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0, "prompt_tokens_details": None}
        answer = {"id": f"embd-{next(self._ids)}", "object": "list", "created": CREATED, "model": MODEL}
        return refused or self._document(answer | {"data": data, "usage": usage})

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(Seen(request.path, _lower(request.headers), {}))
        card = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "vllm", "root": MODEL}
        return self._document(
            {"object": "list", "data": [card | {"parent": None, "max_model_len": 8192, "permission": []}]}
        )

    # -------------------------------------------------------------- how it answers

    async def _take(self, request: web.Request) -> tuple[dict[str, Any], web.Response | None]:
        body = await request.json()
        self.seen.append(Seen(request.path, _lower(request.headers), body))
        self._arrival.set()
        await self.gate.wait()
        status = self.refusals.pop(0) if self.refusals else 200
        if body.get("stream_options") and not body.get("stream"):
            status = 400  # "Stream options can only be defined when `stream=True`." (protocol.py)
        if status == 200:
            return body, None
        error = {"message": "no", "type": "BadRequestError", "param": None, "code": status}
        headers = {"retry-after-ms": "1"} | self.refusal_headers  # so the SDK retries at once
        return body, web.json_response({"error": error}, status=status, headers=headers)

    def _document(self, answer: dict[str, Any]) -> web.Response:
        response = web.json_response(answer)
        if self.gzip:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _stream(
        self, request: web.Request, events: Iterator[tuple[str | None, dict[str, Any]]], *, done: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        with contextlib.suppress(ConnectionError):  # the client has gone
            await self._send(request, response, events, done=done)
        return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        events: Iterator[tuple[str | None, dict[str, Any]]],
        *,
        done: bool,
    ) -> None:
        await response.prepare(request)
        for n, (name, data) in enumerate(events):
            if n == self.stall_after:
                await self.flow.wait()
            if n == self.break_after:
                assert request.transport is not None
                request.transport.abort()
                return
            lines = [f"event: {name}"] * (name is not None)
            lines += [f"data: {json.dumps(data, separators=(',', ':'))}", "", ""]
            await response.write(self.line_end.join(lines).encode())
        if done:
            await response.write(f"data: [DONE]{self.line_end * 2}".encode())
        await response.write_eof()

    def _chat_events(self, chat_id: str, body: dict[str, Any]) -> Iterator[tuple[None, dict[str, Any]]]:
        head = {"id": chat_id, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}
        include, continuous = self._includes_usage(body)

        def chunk(index: int, choice: dict[str, Any], **more: Any) -> tuple[None, dict[str, Any]]:
            usage = {"usage": self._counts(index)} if continuous else {}
            return None, head | {"choices": [{"index": 0} | choice]} | more | usage

        first = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield chunk(0, first, prompt_token_ids=None, prompt_text=None)
        calls = self._tool_calls(body)
        deltas: list[dict[str, Any]] = [{"tool_calls": [call | {"index": n}]} for n, call in enumerate(calls)] or [
            {"content": token} for token in _tokens(self._content(body))
        ]
        for n, delta in enumerate(deltas, 1):
            yield chunk(n, {"delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None})
        reason = {"finish_reason": "tool_calls" if calls else "stop", "stop_reason": None, "token_ids": None}
        yield chunk(len(deltas), {"delta": {"content": ""}, "logprobs": None} | reason)
        if include:
            yield None, head | {"choices": []} | self._usage_field(nulls=False)

    def _completion_events(self, text_id: str, body: dict[str, Any]) -> Iterator[tuple[None, dict[str, Any]]]:
        head = {"id": text_id, "object": "text_completion", "created": CREATED, "model": MODEL}
        include, continuous = self._includes_usage(body)
        tokens = _tokens(self.text)
        for n, token in enumerate(tokens, 1):
            choice = {"index": 0, "text": token, "logprobs": None}
            choice |= {"finish_reason": "length" if n == len(tokens) else None, "stop_reason": None}
            choice |= {"prompt_token_ids": None, "token_ids": None}
            yield None, head | {"choices": [choice]} | ({"usage": self._counts(n)} if continuous else {})
        if include:
            yield None, head | {"choices": []} | self._usage_field(nulls=False)

    def _response_events(self, response_id: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        numbers = itertools.count()
        text, item_id = self._content(body), f"msg_{response_id}"
        at = {"item_id": item_id, "output_index": 0, "content_index": 0}

        def event(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
            return name, fields | {"sequence_number": next(numbers), "type": name}

        unfinished = self._response(response_id, None)
        yield event("response.created", response=unfinished)
        yield event("response.in_progress", response=unfinished)
        item = {"id": item_id, "content": [], "role": "assistant", "status": "in_progress", "type": "message"}
        yield event("response.output_item.added", item=item, output_index=0)
        part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
        yield event("response.content_part.added", part=part, **at)
        for token in _tokens(text):
            yield event("response.output_text.delta", delta=token, logprobs=[], **at)
        yield event("response.output_text.done", text=text, logprobs=[], **at)
        part = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
        yield event("response.content_part.done", part=part, **at)
        done = item | {"content": [part], "status": "completed"}
        yield event("response.output_item.done", item=done, output_index=0)
        yield event("response.completed", response=self._response(response_id, text))

    def _response(self, response_id: str, text: str | None) -> dict[str, Any]:
        part = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
        item = {"id": f"msg_{response_id}", "content": [part], "role": "assistant", "status": "completed"}
        answer: dict[str, Any] = {"id": response_id, "created_at": CREATED}
        answer |= dict.fromkeys(("incomplete_details", "instructions", "metadata"))
        answer |= {"model": MODEL, "object": "response"}
        answer |= {"output": [] if text is None else [item | {"type": "message", "phase": None}]}
        answer |= {"parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "none", "tools": []}
        answer |= {"top_p": 1.0, "background": False, "max_output_tokens": 16}
        answer |= dict.fromkeys(("max_tool_calls", "previous_response_id", "prompt", "reasoning"))
        answer |= {"service_tier": "auto", "status": "in_progress" if text is None else "completed"}
        answer |= {"text": None, "top_logprobs": None, "truncation": "disabled"}
        answer |= {"usage": None} if text is None else self._responses_usage()
        answer |= {"user": None, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        nulls = ("kv_transfer_params", "ec_transfer_params", "input_messages", "output_messages")
        return answer | dict.fromkeys(nulls)

    # -------------------------------------------------------------- what it says

    def _content(self, body: dict[str, Any]) -> str:
        """Text; JSON where the request asks for it."""
        wanted = body.get("response_format") or (body.get("text") or {}).get("format") or {}
        return self.json if wanted.get("type") in {"json_schema", "json_object"} else self.text

    def _tool_calls(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """A call of the first tool; after its answer there is none."""
        if not body.get("tools") or body["messages"][-1]["role"] == "tool":
            return []
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"answer":42}'}
        return [{"id": f"chatcmpl-tool-{next(self._ids)}", "type": "function", "function": function}]

    def _includes_usage(self, body: dict[str, Any]) -> tuple[bool, bool]:
        """`should_include_usage` of vLLM 0.32 (entrypoints/serve/utils/api_utils.py): at the end, in each."""
        if self.force_include_usage:
            return True, True
        options = body.get("stream_options") or {}
        include = bool(options.get("include_usage"))
        return include, include and bool(options.get("continuous_usage_stats"))

    def _counts(self, output: int) -> dict[str, Any]:
        return {
            "prompt_tokens": self.usage[0],
            "total_tokens": self.usage[0] + output,
            "completion_tokens": output,
        }

    def _usage_field(self, *, nulls: bool) -> dict[str, Any]:
        if self.usage_field is not None:
            return self.usage_field
        cached = self.usage[2]
        unset = {"created_cache_tokens": None, "multimodal_tokens": None} if nulls else {}
        details = None if cached is None else {"cached_tokens": cached} | unset
        counts = self._counts(self.usage[1])
        if nulls:
            return {"usage": counts | {"prompt_tokens_details": details, "completion_tokens_details": None}}
        return {"usage": counts | ({"prompt_tokens_details": details} if details else {})}

    def _responses_usage(self) -> dict[str, Any]:
        if self.usage_field is not None:
            return self.usage_field
        prompt, output, cached = self.usage
        details = {"cached_tokens": cached or 0, "cache_write_tokens": 0}
        output_details = {"reasoning_tokens": 0, "tool_output_tokens": 0}
        return {
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": details | {"input_tokens_per_turn": [], "cached_tokens_per_turn": []},
                "output_tokens": output,
                "output_tokens_details": output_details
                | {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []},
                "total_tokens": prompt + output,
            }
        }


def _tokens(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
