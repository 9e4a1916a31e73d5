"""What a server said: one page as a reading an engine, two pages as a snapshot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineReading:
    """One engine's values on one metrics page; None where the page does not say.

    Attributes:
        engine: The engine's label on the page, "0" where the page has none.
        usage: Share of the KV cache held by requests in flight, 0 to 1.
        running: Requests in the running batch.
        waiting: Requests in the server's queue.
        waiting_for_capacity: Of those, the ones not deferred for another reason.
        sleeping: Whether the server was put to sleep and serves nobody.
        capacity_tokens: KV tokens that fit.
        block_size: Tokens a block.
        queries: Prefix-cache look-ups since the server started. [tokens, or blocks on vLLM ≤ 0.8]
        hits: Prefix-cache hits since the server started. [same unit as `queries`]
        hit_rate_gauge: The server's own hit rate, where it has no counters.
        preemptions: Requests preempted since the server started.
        prompt_tokens: Prompt tokens since the server started.
        computed_prompt_tokens: Of those, the tokens not served from a cache.
        generation_tokens: Output tokens since the server started.
    """

    engine: str = "0"
    usage: float | None = None
    running: float | None = None
    waiting: float | None = None
    waiting_for_capacity: float | None = None
    sleeping: bool = False
    capacity_tokens: float | None = None
    block_size: int | None = None
    queries: float | None = None
    hits: float | None = None
    hit_rate_gauge: float | None = None
    preemptions: float | None = None
    prompt_tokens: float | None = None
    computed_prompt_tokens: float | None = None
    generation_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class EngineWindow:
    """One engine over the window of a snapshot.

    Attributes:
        engine: The engine's label.
        usage: Its KV usage at the last page, 0 to 1.
        hit_rate: Hits over queries within the window; None without queries: no evidence, not 0 %.
        running: Requests in its running batch at the last page.
        waiting: Requests in its queue at the last page.
    """

    engine: str
    usage: float | None
    hit_rate: float | None
    running: float | None
    waiting: float | None


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """What a server said at one poll, with counters as differences over a window.

    Attributes:
        time: When the page was read, on the event loop's clock. [s]
        window_s: Span of the differences below; 0 at the first page after a start or a restart. [s]
        engines: Each data-parallel engine behind the URL.
        usage: The highest usage of any engine.
        hit_rate: Hits over queries, summed over the engines, within the window; None without queries.
        running: Requests running, summed.
        waiting: Requests waiting, summed.
        sleeping: Whether any engine sleeps.
        capacity_tokens: KV tokens that fit, summed.
        block_size: Tokens a block.
        preemptions: Requests preempted within the window.
        prompt_tokens: Prompt tokens within the window.
        computed_prompt_tokens: Of those, the tokens not served from a cache.
        generation_tokens: Output tokens within the window.
        restarts: Restarts of the server seen so far.
    """

    time: float
    window_s: float
    engines: tuple[EngineWindow, ...]
    usage: float | None
    hit_rate: float | None
    running: float | None
    waiting: float | None
    sleeping: bool
    capacity_tokens: float | None
    block_size: int | None
    preemptions: float
    prompt_tokens: float
    computed_prompt_tokens: float
    generation_tokens: float
    restarts: int
