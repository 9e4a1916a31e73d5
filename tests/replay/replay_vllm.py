"""A stand-in for vLLM on a loopback port: it answers at once, counts like vLLM, and never evicts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BLOCK = 16
OUTPUT_ID = 99  # plus the request's number: outside of the ids that prompts are made of


class FakeVLLM:
    """Use as an async context manager; `url` is where it listens.

    Attributes:
        bodies: Every completion request, in order.
        headers: The headers of each.
        returns_ids: Whether completions carry `token_ids`.
        hold: While set to an event, completions wait for it.
        usage: Gives the KV usage of a metrics page.
        refuse: Gives a response instead of a completion, or None.
        serves_metrics: Whether there is a metrics page.
        stuck_running: Requests said to run whatever happens.
        at_once: How many completions are open.
        pages_while_busy: Metrics pages read while some were.
        most_at_once: The most completions that were open at one time.
    """

    def __init__(self, *, model: str = "tiny", max_model_len: int | None = 8192, capacity: int = 16384) -> None:
        self.model = model
        self.max_model_len = max_model_len
        self.capacity = capacity
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.returns_ids = True
        self.hold: asyncio.Event | None = None
        self.usage: Callable[[], float] = lambda: 0.25 if self.at_once else 0.0
        self.refuse: Callable[[dict[str, Any]], web.Response | None] = lambda body: None
        self.serves_metrics = True
        self.stuck_running = 0
        self.most_at_once = 0
        self.pages_while_busy = 0
        self.at_once = 0
        self.queries = self.hits = self.computed = self.generated = 0
        self.url = ""
        self._blocks: set[int] = set()
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/version", self._version)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completion)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.hold is not None:
            self.hold.set()
        assert self._runner is not None
        await self._runner.cleanup()

    def bodies_by_salt(self) -> dict[str, list[dict[str, Any]]]:
        """The replayed requests of each run; the probe before a run has no salt."""
        runs: dict[str, list[dict[str, Any]]] = {}
        for body in self.bodies:
            if "cache_salt" in body:
                runs.setdefault(body["cache_salt"], []).append(body)
        return runs

    async def until(self, condition: Callable[[], bool], *, limit_s: float = 10.0) -> None:
        """Wait until a request makes it true."""
        async with asyncio.timeout(limit_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _completion(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers)
        if body["model"] != self.model:
            return _error(404, f"The model `{body['model']}` does not exist.")
        refused = self.refuse(body)
        if refused is not None:
            return refused
        self.at_once += 1
        self._changed.set()
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hold is not None and "cache_salt" in body:
                await self.hold.wait()
            return self._answer(body)
        finally:
            self.at_once -= 1
            self._changed.set()

    def _answer(self, body: dict[str, Any]) -> web.Response:
        prompt: list[int] = body["prompt"]
        output = [OUTPUT_ID] * body["max_tokens"]
        cached = self._look_up(body.get("cache_salt", ""), prompt)
        self._store(body.get("cache_salt", ""), prompt + output)
        self.queries += len(prompt)
        self.hits += cached
        self.computed += len(prompt) - cached
        self.generated += len(output)
        choice: dict[str, Any] = {"index": 0, "text": "…", "finish_reason": "length", "logprobs": None}
        if self.returns_ids and body.get("return_token_ids"):
            choice["token_ids"] = output
        return web.json_response(
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1,
                "model": self.model,
                "choices": [choice],
                "usage": {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": len(output),
                    "total_tokens": len(prompt) + len(output),
                    "prompt_tokens_details": {"cached_tokens": cached},
                },
            }
        )

    def _look_up(self, salt: str, tokens: list[int]) -> int:
        full = (len(tokens) - 1) // BLOCK  # as in vLLM, the last token is always computed
        for index, key in enumerate(_chain(salt, tokens[: full * BLOCK])):
            if key not in self._blocks:
                return index * BLOCK
        return full * BLOCK

    def _store(self, salt: str, tokens: list[int]) -> None:
        self._blocks.update(_chain(salt, tokens[: len(tokens) // BLOCK * BLOCK]))

    async def _models(self, request: web.Request) -> web.Response:
        card: dict[str, Any] = {"id": self.model, "object": "model", "created": 1, "owned_by": "vllm"}
        if self.max_model_len is not None:
            card["max_model_len"] = self.max_model_len
        return web.json_response({"object": "list", "data": [card]})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def _metrics(self, request: web.Request) -> web.Response:
        self.pages_while_busy += self.at_once > 0
        self._changed.set()
        if not self.serves_metrics:
            raise web.HTTPNotFound
        label = f'engine="0",model_name="{self.model}"'
        page = f"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{label}}} {float(self.at_once + self.stuck_running)}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{{label}}} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{{label}}} {self.usage()}
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{{{label}}} {float(self.queries)}
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{{{label}}} {float(self.hits)}
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{{{label}}} 0.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{{label}}} {float(self.queries)}
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{{{label},source="local_compute"}} {float(self.computed)}
vllm:prompt_tokens_by_source_total{{{label},source="local_cache_hit"}} {float(self.hits)}
vllm:prompt_tokens_by_source_total{{{label},source="external_kv_transfer"}} 0.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{{label}}} {float(self.generated)}
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="{BLOCK}",{label},kv_cache_size_tokens="{self.capacity}",\
num_gpu_blocks="{self.capacity // BLOCK}"}} 1.0
"""
        return web.Response(text=page, content_type="text/plain")


def _chain(salt: str, tokens: list[int]) -> list[int]:
    keys: list[int] = []
    key = hash(salt)
    for start in range(0, len(tokens), BLOCK):
        key = hash((key, tuple(tokens[start : start + BLOCK])))
        keys.append(key)
    return keys


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "NotFoundError", "code": status}}, status=status)
