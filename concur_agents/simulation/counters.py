"""What the engine tells about itself, defined as vLLM 0.32 defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concur_agents.simulation.request import Request


@dataclass(slots=True)
class Counters:
    """The values behind a metrics page, as of the end of the last finished step.

    Gauges and cache counters are what `Scheduler.make_stats` (v1/core/sched/scheduler.py) says at the end of
    `update_from_output`; they stand still while the engine is idle. The rest is counted as outputs reach the front end
    (v1/metrics/stats.py `IterationStats`, v1/metrics/loggers.py `PrometheusStatLogger.record`). Sums of finished
    requests are the `_sum` of vLLM's histograms, whose `_count` is `request_success`.

    Attributes:
        kv_cache_usage_perc: `vllm:kv_cache_usage_perc`: 1 − free / usable blocks; free counts the cached blocks that
            nobody uses (v1/core/block_pool.py `get_usage`).
        num_requests_running: `vllm:num_requests_running`.
        num_requests_waiting: `vllm:num_requests_waiting`; equal to
            `vllm:num_requests_waiting_by_reason{reason="capacity"}`, as nothing here is ever `deferred`.
        prefix_cache_queries: `vllm:prefix_cache_queries`: tokens looked up when a request is first scheduled;
            not when it is scheduled again after a preemption (v1/metrics/stats.py `PrefixCacheStats.record`). [tokens]
        prefix_cache_hits: `vllm:prefix_cache_hits`, and
            `vllm:prompt_tokens_cached_by_source{source="device"}`. [tokens]
        num_preemptions: `vllm:num_preemptions`: counted with the request's next output. Without asynchronous scheduling
            that is after its recomputation (`EngineCoreEventType.PREEMPTED` travels with an output).
        prompt_tokens: `vllm:prompt_tokens`: counted with the first token. [tokens]
        prompt_tokens_cached: `vllm:prompt_tokens_cached`, and
            `vllm:prompt_tokens_by_source{source="local_cache_hit"}`. [tokens]
        generation_tokens: `vllm:generation_tokens`. [tokens]
        iterations: Steps that gave an output: `vllm:iteration_tokens_total_count`.
        iteration_tokens: Prompt tokens computed for requests that got their first token, and output tokens:
            `vllm:iteration_tokens_total_sum`. [tokens]
        request_success: `vllm:request_success{finished_reason="length"}`.
        time_to_first_token_seconds: `vllm:time_to_first_token_seconds_sum`. [s]
        first_tokens: `vllm:time_to_first_token_seconds_count`.
        request_prefill_kv_computed_tokens: Sum of `vllm:request_prefill_kv_computed_tokens`: the prompt less what was
            cached when first scheduled. [tokens]
        request_prompt_tokens: Sum of `vllm:request_prompt_tokens`. [tokens]
        request_generation_tokens: Sum of `vllm:request_generation_tokens`. [tokens]
        request_num_preemptions: Sum of `vllm:request_num_preemptions`.
        request_queue_time_seconds: Sum of `vllm:request_queue_time_seconds`. [s]
        request_prefill_time_seconds: Sum of `vllm:request_prefill_time_seconds`. [s]
        request_decode_time_seconds: Sum of `vllm:request_decode_time_seconds`. [s]
        request_inference_time_seconds: Sum of `vllm:request_inference_time_seconds`. [s]
        e2e_request_latency_seconds: Sum of `vllm:e2e_request_latency_seconds`. [s]
        request_time_per_output_token_seconds: Sum of `vllm:request_time_per_output_token_seconds`. [s]
    """

    kv_cache_usage_perc: float = 0.0
    num_requests_running: int = 0
    num_requests_waiting: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    num_preemptions: int = 0
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens: int = 0
    iterations: int = 0
    iteration_tokens: int = 0
    request_success: int = 0
    time_to_first_token_seconds: float = 0.0
    first_tokens: int = 0
    request_prefill_kv_computed_tokens: int = 0
    request_prompt_tokens: int = 0
    request_generation_tokens: int = 0
    request_num_preemptions: int = 0
    request_queue_time_seconds: float = 0.0
    request_prefill_time_seconds: float = 0.0
    request_decode_time_seconds: float = 0.0
    request_inference_time_seconds: float = 0.0
    e2e_request_latency_seconds: float = 0.0
    request_time_per_output_token_seconds: float = 0.0

    @property
    def prompt_tokens_computed(self) -> int:
        """`vllm:prompt_tokens_by_source{source="local_compute"}` (`PromptTokenStats`). [tokens]"""
        return self.prompt_tokens - self.prompt_tokens_cached

    def count_outputs(self, tokens: int, steps: int = 1) -> None:
        """Count the output tokens of steps that gave some."""
        self.generation_tokens += tokens
        self.iterations += steps
        self.iteration_tokens += tokens

    def count_first_token(self, request: Request) -> None:
        """Count the prompt of a request that has just got its first token."""
        tokens = request.prompt_tokens
        self.prompt_tokens += tokens
        self.prompt_tokens_cached += request.cached_tokens
        self.iteration_tokens += tokens - request.cached_tokens
        self.first_tokens += 1
        self.time_to_first_token_seconds += request.time_to_first_token

    def count_finished(self, request: Request) -> None:
        """Count a request that has just got its last token."""
        self.request_success += 1
        self.request_prefill_kv_computed_tokens += request.prompt_tokens - request.cached_tokens
        self.request_prompt_tokens += request.prompt_tokens
        self.request_generation_tokens += request.generated
        self.request_num_preemptions += request.preemptions
        self.request_queue_time_seconds += request.queue_time
        self.request_prefill_time_seconds += request.prefill_time
        self.request_decode_time_seconds += request.decode_time
        self.request_inference_time_seconds += request.inference_time
        self.e2e_request_latency_seconds += request.latency
        self.request_time_per_output_token_seconds += request.time_per_output_token
