"""The OpenAI-compatible face of an engine, without a transport: requests in, answers out.

What answers as vLLM 0.32 with `--enable-prompt-tokens-details --enable-auto-tool-choice` does; the text is filler.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING, Any
from zlib import crc32

from concur_agents.simulation.chat import Chat
from concur_agents.simulation.completions import DEFAULT_MAX_TOKENS, Completion
from concur_agents.simulation.filler import Filler, Output
from concur_agents.simulation.metrics_page import CONTENT_TYPE, MetricsPage
from concur_agents.simulation.options import Options, check_model, read_options
from concur_agents.simulation.tokens import ID_BYTES, Exchange, Tokenizer, exchange_of
from concur_agents.simulation.wire import DONE, STREAM_TYPE, Answer, ApiError, event, read_json, usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from concur_agents.simulation.request import Request
    from concur_agents.simulation.running import Generation, RunningEngine

TOOL_ROUNDS = 3


class OpenAIApi:
    """Answers the requests of OpenAI clients from an engine.

    Args:
        engine: The engine; it runs on the loop that calls `handle`.
        model: Name of the model it serves.
        version: What `/version` says.
        tool_rounds: With tools and `tool_choice` `auto`, a conversation gets tool calls until it holds so many
            results, and then an answer in text.
        clock: Unix time, for when things were created. [s]

    Attributes:
        engine: The engine.
        model: Name of the model.

    Raises:
        ValueError: If `tool_rounds` is negative.
    """

    def __init__(
        self,
        engine: RunningEngine,
        *,
        model: str,
        version: str,
        tool_rounds: int = TOOL_ROUNDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if tool_rounds < 0:
            raise ValueError(f"tool_rounds is {tool_rounds}: it must be 0 or more")
        self.engine = engine
        self.model = model
        self._version = version
        self._tool_rounds = tool_rounds
        self._clock = clock
        self._created = clock()
        # No two servers give the same ids: clients keep conversations by them.
        self._instance = crc32(repr(self._created).encode())
        self._numbers = count()
        self._stopped = 0
        self._block_size = engine.engine.block_size
        self._tokenizer = Tokenizer()
        self._filler = Filler(self._tokenizer)
        self._page = MetricsPage(engine.engine, model=model, created=self._created)
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[bytes], Awaitable[Answer]]]] = {
            "/v1/chat/completions": (("POST",), self._chat),
            "/v1/completions": (("POST",), self._completion),
            "/v1/models": (("GET",), self._models),
            "/version": (("GET",), self._tell_version),
            "/metrics": (("GET",), self._tell_metrics),
            "/health": (("GET",), self._ok),
            "/ping": (("GET", "POST"), self._ok),
        }

    async def handle(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Answer a request.

        Cancelling it aborts the request at the engine, as closing a stream does.

        Args:
            method: In capitals.
            path: Without the query.
            body: The body.

        Returns:
            The answer; its stream, if it is one, must be read to the end or closed.
        """
        route = self._routes.get(path)
        if route is None:
            return Answer.of({"detail": "Not Found"}, status=404)
        methods, answer = route
        if method not in methods:
            return Answer.of({"detail": "Method Not Allowed"}, status=405, headers={"Allow": ", ".join(methods)})
        try:
            return await answer(body)
        except ApiError as error:
            return error.answer()

    async def _ok(self, _: bytes) -> Answer:
        return Answer(b"", content_type="text/plain; charset=utf-8")

    async def _tell_version(self, _: bytes) -> Answer:
        return Answer.of({"version": self._version})

    async def _tell_metrics(self, _: bytes) -> Answer:
        page = self._page.render(self.engine.counters(), stopped=self._stopped)
        return Answer(page.encode(), content_type=CONTENT_TYPE)

    async def _models(self, _: bytes) -> Answer:
        created = int(self._created)
        permission = {
            "id": f"modelperm-{self._instance:016x}",
            "object": "model_permission",
            "created": created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": False,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        card = {
            "id": self.model,
            "object": "model",
            "created": created,
            "owned_by": "concur",
            "root": self.model,
            "parent": None,
            "max_model_len": self.engine.engine.max_model_len,
            "permission": [permission],
        }
        return Answer.of({"object": "list", "data": [card]})

    async def _chat(self, given: bytes) -> Answer:
        body = read_json(given)
        options = read_options(body, default_max_tokens=None)
        chat = Chat(body, model=self.model, tool_rounds=self._tool_rounds)
        check_model(body, self.model)
        return await self._answer(chat, [self._tokenizer.render_chat(chat.messages, chat.tools)], options)

    async def _completion(self, given: bytes) -> Answer:
        body = read_json(given)
        options = read_options(body, default_max_tokens=DEFAULT_MAX_TOKENS)
        completion = Completion(body, self._tokenizer)
        check_model(body, self.model)
        return await self._answer(completion, completion.prompts, options)

    async def _answer(self, asked: Chat | Completion, prompts: list[bytes], options: Options) -> Answer:
        longest = self.engine.engine.max_model_len
        parts = []
        for prompt in prompts:
            length = options.length(len(prompt) // ID_BYTES, longest)
            output = asked.output(self._filler, prompt, options.seed, length)
            parts.append(_Part(prompt, output, exchange_of(prompt, output.ids, self._block_size, options.cache_salt)))
        answer_id = asked.prefix + (options.request_id or f"{self._instance:08x}{next(self._numbers):08x}")
        head = {"id": answer_id, "object": asked.whole, "created": int(self._clock()), "model": self.model}
        if options.stream:
            head["object"] = asked.piece
            generations = [self._open(part) for part in parts]
            stream = _Stream(asked, parts, generations, options=options, head=head, count_ended=self._count)
            return Answer(stream, content_type=STREAM_TYPE)
        if len(parts) == 1:
            requests = [await self._generate(parts[0])]
        else:
            requests = await asyncio.gather(*(self._generate(part) for part in parts))
        ids = options.return_token_ids
        choices = [asked.choice(at, part.prompt, part.output, answer_id, ids=ids) for at, part in enumerate(parts)]
        used = usage(requests) | {"completion_tokens_details": None}
        used["prompt_tokens_details"] |= {"created_cache_tokens": None, "multimodal_tokens": None}
        return Answer.of(
            head
            | {"choices": choices, "service_tier": None, "system_fingerprint": None, "usage": used}
            | asked.whole_extras(parts[0].prompt, ids=ids)
        )

    def _open(self, part: _Part) -> Generation:
        prompt, content = part.exchange
        return self.engine.open(prompt, len(part.output.pieces), content=content)

    async def _generate(self, part: _Part) -> Request:
        prompt, content = part.exchange
        request = await self.engine.generate(prompt, len(part.output.pieces), content=content)
        self._count(part.output)
        return request

    def _count(self, output: Output) -> None:
        """Note how an answer ended that the engine has finished."""
        self._stopped += output.finish_reason == "stop"


class _Part:
    """One prompt and the answer to it."""

    __slots__ = ("exchange", "output", "prompt")

    def __init__(self, prompt: bytes, output: Output, exchange: Exchange) -> None:
        self.prompt = prompt
        self.output = output
        self.exchange = exchange


class _Stream:
    """An answer as server-sent events; the requests are on their way before it is read."""

    def __init__(
        self,
        asked: Chat | Completion,
        parts: list[_Part],
        generations: list[Generation],
        *,
        options: Options,
        head: dict[str, Any],
        count_ended: Callable[[Output], None],
    ) -> None:
        self._asked = asked
        self._parts = parts
        self._generations = generations
        self._options = options
        self._head = head
        self._count_ended = count_ended
        self._events = self._write()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        """Give the answer up: what is not finished is aborted."""
        await self._events.aclose()
        self._abort()

    def _abort(self) -> None:
        for generation in self._generations:
            generation.abort()

    async def _write(self) -> AsyncGenerator[bytes, None]:
        options, head, ids = self._options, self._head, self._options.return_token_ids
        parts = [
            self._asked.pieces(at, part.prompt, part.output, head["id"], ids=ids) for at, part in enumerate(self._parts)
        ]
        told = [0] * len(parts)
        opening = self._asked.opening(self._parts[0].prompt, ids=ids)
        try:
            async with aclosing(_counts(self._generations)) as counts:
                async for at, tokens in counts:
                    request = self._generations[at].request
                    if opening is not None:
                        yield event(head | opening | self._usage_so_far(request, 0))
                        opening = None
                    start, told[at] = told[at], tokens
                    if tokens == len(self._parts[at].output.pieces):
                        self._count_ended(self._parts[at].output)
                    choice = parts[at].between(start, tokens)
                    if choice is not None:
                        yield event(head | {"choices": [choice]} | self._usage_so_far(request, tokens))
            if options.include_usage:
                requests = [generation.request for generation in self._generations]
                yield event(head | {"choices": [], "usage": usage(requests)})
            yield DONE
        finally:
            self._abort()

    def _usage_so_far(self, request: Request, tokens: int) -> dict[str, Any]:
        if not self._options.continuous_usage:
            return {}
        return {"usage": usage([request], details=False, generated=tokens)}


async def _counts(generations: list[Generation]) -> AsyncGenerator[tuple[int, int], None]:
    """Which of several generations has how many tokens, as they come."""
    if len(generations) == 1:
        async with aclosing(generations[0].tokens()) as counts:
            async for tokens in counts:
                yield 0, tokens
        return
    news: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

    async def follow(at: int) -> None:
        async with aclosing(generations[at].tokens()) as counts:
            async for tokens in counts:
                news.put_nowait((at, tokens))
        news.put_nowait(None)

    tasks = [asyncio.create_task(follow(at)) for at in range(len(generations))]
    left = len(tasks)
    try:
        while left:
            new = await news.get()
            if new is None:
                left -= 1
            else:
                yield new
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
