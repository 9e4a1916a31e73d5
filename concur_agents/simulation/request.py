"""One request at the engine: what was asked, where it stands, and when things happened to it."""

from __future__ import annotations

from enum import Enum
from math import nan
from typing import TYPE_CHECKING

from concur_agents.simulation.blocks import Holding

if TYPE_CHECKING:
    from collections.abc import Hashable

    from concur_agents.simulation.content import Prompt


class Phase(Enum):
    """Where a request stands."""

    ARRIVED = "arrived"
    """Sent; the scheduler has not seen it yet (it looks between two steps)."""
    WAITING = "waiting"
    """In the waiting queue, new or preempted."""
    PREFILLING = "prefilling"
    """Running; its prompt (and what it had generated before a preemption) is being computed."""
    DECODING = "decoding"
    """Running; gets a token every step."""
    FINISHED = "finished"
    """Has all its output."""
    ABORTED = "aborted"
    """Given up by its client."""


class Request:
    """A request and its history; made by `Engine.submit`, and only read by others.

    Times are on the caller's clock, `nan` until they happen; durations as vLLM 0.32 defines them in
    v1/metrics/stats.py `IterationStats.update_from_finished_request`.

    Attributes:
        prompt: What was asked.
        output_id: Content id of the output: a later prompt quotes it as the segment (`output_id`, tokens).
        max_output_tokens: Length of the output: the model always writes this much, as with `ignore_eos`. [tokens]
        phase: Where it stands.
        cached_tokens: Prompt tokens found in the cache when first scheduled; a preemption does not change it
            (v1/core/sched/scheduler.py `schedule`, `PrefillStats.set`). [tokens]
        preemptions: How often it lost its blocks while running.
        arrived: When it was sent. [s]
        queued: When the scheduler took it in, between two steps. [s]
        scheduled: When it was first scheduled. [s]
        first_token: End of the step that gave its first token. [s]
        finished: End of the step that gave its last token. [s]
        content: `prompt` and the whole output.
        computed: Tokens whose KV is computed or scheduled; while decoding, as it was when that began. [tokens]
        generated: Output tokens; while decoding, as it was when that began. [tokens]
        joined: The scheduler's step count when decoding began.
        last_step: The step count at which it will be finished.
        order: Its place in the order of admission.
        holding: Its blocks in the cache.
        unreported: Preemptions not yet in the counters.
    """

    __slots__ = (
        "arrived",
        "cached_tokens",
        "computed",
        "content",
        "finished",
        "first_token",
        "generated",
        "holding",
        "joined",
        "last_step",
        "max_output_tokens",
        "order",
        "output_id",
        "phase",
        "preemptions",
        "prompt",
        "queued",
        "scheduled",
        "unreported",
    )

    def __init__(
        self,
        arrived: float,
        prompt: Prompt,
        max_output_tokens: int,
        output_id: Hashable,
        content: Prompt | None = None,
    ) -> None:
        self.prompt = prompt
        self.output_id = output_id
        self.max_output_tokens = max_output_tokens
        self.phase = Phase.ARRIVED
        self.cached_tokens = 0
        self.preemptions = 0
        self.arrived = arrived
        self.queued = self.scheduled = self.first_token = self.finished = nan
        self.content = prompt.then((output_id, max_output_tokens)) if content is None else content
        self.computed = self.generated = 0
        self.joined = self.last_step = self.order = self.unreported = 0
        self.holding = Holding()

    @property
    def prompt_tokens(self) -> int:
        """`usage.prompt_tokens`. [tokens]"""
        return self.prompt.tokens

    @property
    def queue_time(self) -> float:
        """From taken in to first scheduled (`vllm:request_queue_time_seconds`). [s]"""
        return self.scheduled - self.queued

    @property
    def prefill_time(self) -> float:
        """From first scheduled to first token, preemptions included (`vllm:request_prefill_time_seconds`). [s]"""
        return self.first_token - self.scheduled

    @property
    def decode_time(self) -> float:
        """From first to last token, preemptions included (`vllm:request_decode_time_seconds`). [s]"""
        return self.finished - self.first_token

    @property
    def inference_time(self) -> float:
        """From first scheduled to last token (`vllm:request_inference_time_seconds`). [s]"""
        return self.finished - self.scheduled

    @property
    def latency(self) -> float:
        """From arrival to last token (`vllm:e2e_request_latency_seconds`). [s]"""
        return self.finished - self.arrived

    @property
    def time_to_first_token(self) -> float:
        """From arrival to first token (`vllm:time_to_first_token_seconds`). [s]"""
        return self.first_token - self.arrived

    @property
    def time_per_output_token(self) -> float:
        """Decode time over the tokens after the first (`vllm:request_time_per_output_token_seconds`). [s]"""
        after_first = self.generated - 1
        return self.decode_time / after_first if after_first else 0.0

    def __repr__(self) -> str:
        return f"<Request of {self.prompt.tokens} + {self.max_output_tokens} tokens, {self.phase.value}>"
