"""What a server is started with that its scheduler obeys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What a vLLM server is started with.

    The defaults are those of `vllm serve` on H100 and H200 (vLLM 0.32 engine/arg_utils.py `get_batch_defaults`). There,
    GPUs with 160 GB or more have 16384 tokens and 1024 requests; A100s and GPUs under 70 GB, 2048 and 256; CPUs, 2048
    and 128, without asynchronous scheduling (platforms/cpu.py).

    Attributes:
        max_num_batched_tokens: Token budget of a step.
        max_num_seqs: Requests that may run at once.
        watermark: Share of all blocks to leave free when admitting beside running requests, 0 to 1.
        async_scheduling: Whether a step is scheduled while the one before it runs. Then arrivals and freed blocks count
            one step later (v1/engine/core.py `step_with_batch_queue`; on by default, config/vllm.py).

    Raises:
        ValueError: A limit makes no sense (config/scheduler.py `SchedulerConfig`).
    """

    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 1024
    watermark: float = 0.0
    async_scheduling: bool = True

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}: it must be 1 or more")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}): every running request takes a token a step"
            )
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark is {self.watermark}: it must be at least 0 and below 1")
