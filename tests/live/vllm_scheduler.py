"""Plays loads on vLLM's own scheduler and block manager, beside the embedded engine; runs in vLLM's environment.

    PYTHONPATH=.:tests python tests/live/vllm_scheduler.py MODEL_FOLDER FIRST_SEED LAST_SEED [async] [aborts]

The loop around the scheduler is that of vLLM 0.32 v1/engine/core.py, without a model: `step` and
`step_with_batch_queue`, with a clock that a step-time function moves. Prints a line of JSON: loads played, steps,
preemptions, tokens found in the cache, blocks evicted, and how the loads that differ do.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

os.environ.update(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_CPU_KVCACHE_SPACE="1")

import torch
from simulation.loads import STEP_TIME, Load, Played, play, repeat
from simulation.naive_vllm import tokens_of
from vllm import SamplingParams
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreEventType
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from concur_agents.simulation import SchedulerLimits, StepLoad

LONGEST = 2000
FILLER = 3
"""A token id that no load uses. [the loads' ids start after it]"""


@dataclass
class Asked:
    """A request as vLLM sees it, and what came of it."""

    prompt: list[int]
    output: list[int]
    time: float
    aborted: float | None
    given: int = 0
    first: float | None = None
    finished: float | None = None
    cached: int | None = None
    preemptions: int = 0


@dataclass
class Totals:
    queries: int = 0
    hits: int = 0
    preemptions: int = 0
    generated: int = 0

    def copy(self) -> Totals:
        return Totals(self.queries, self.hits, self.preemptions, self.generated)


@dataclass
class Snapshot:
    """What vLLM publishes after a step."""

    time: float
    usage: float
    running: int
    waiting: int
    totals: Totals


def make_scheduler(load: Load, model: ModelConfig) -> Scheduler:
    limits = load.limits
    scheduler_config = SchedulerConfig(
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_model_len=LONGEST,
        enable_chunked_prefill=True,
        is_encoder_decoder=False,
        watermark=limits.watermark,
        async_scheduling=False,  # as the configuration checks it; the CPU platform would refuse it
    )
    cache_config = CacheConfig(
        block_size=load.block_size, gpu_memory_utilization=0.9, cache_dtype="auto", enable_prefix_caching=True
    )
    config = VllmConfig(scheduler_config=scheduler_config, model_config=model, cache_config=cache_config)
    scheduler_config.async_scheduling = limits.async_scheduling
    cache_config.num_gpu_blocks = load.blocks
    cache_config.block_size = load.block_size
    layers = FullAttentionSpec(block_size=load.block_size, num_kv_heads=1, head_size=1, dtype=torch.float32)
    kind = AsyncScheduler if limits.async_scheduling else Scheduler
    no_grammar = type("NoGrammar", (), {"accept_tokens": staticmethod(lambda request, tokens: True)})()
    return kind(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=load.blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], layers)]
        ),
        structured_output_manager=no_grammar,
        block_size=load.block_size,
        log_stats=True,
    )


@dataclass
class Loop:
    """vLLM's engine loop over one load."""

    load: Load
    scheduler: Scheduler
    asked: list[Asked]
    now: float = 0.0
    totals: Totals = field(default_factory=Totals)
    snapshots: list[Snapshot] = field(default_factory=list)

    def run(self) -> None:
        scheduler = self.scheduler
        self._hasher = get_request_block_hasher(self.load.block_size, sha256)
        self._arrivals = deque(range(len(self.asked)))
        self._aborts = deque(sorted((one.aborted, at) for at, one in enumerate(self.asked) if one.aborted is not None))
        self._gone: set[int] = set()
        flying: deque[tuple[Any, list[tuple[str, int, int, bool]]]] = deque()
        while True:
            if not flying and not scheduler.get_num_unfinished_requests():
                while self._arrivals and self._arrivals[0] in self._gone:
                    self._arrivals.popleft()
                if not self._arrivals:
                    return
                self.now = max(self.now, self.asked[self._arrivals[0]].time)
                self._take_in(idle=True)
            while len(flying) < 1 + self.load.limits.async_scheduling and scheduler.get_num_unfinished_requests():
                output = scheduler.schedule()
                if not output.total_num_scheduled_tokens:
                    break
                flying.append((output, [self._entry(*one) for one in output.num_scheduled_tokens.items()]))
            self._complete(*flying.popleft())
            self._take_in(idle=False)

    def _entry(self, name: str, tokens: int) -> tuple[str, int, int, bool]:
        request = self.scheduler.requests[name]
        return name, tokens, request.num_computed_tokens - tokens, not request.is_prefill_chunk

    def _take_in(self, *, idle: bool) -> None:
        while self._arrivals:
            at = self._arrivals[0]
            one = self.asked[at]
            if not (one.time < self.now or (idle and one.time == self.now)):
                return
            self._arrivals.popleft()
            if at not in self._gone:
                self.scheduler.add_request(
                    Request(
                        request_id=str(at),
                        prompt_token_ids=one.prompt,
                        sampling_params=SamplingParams(max_tokens=len(one.output), ignore_eos=True),
                        pooling_params=None,
                        block_hasher=self._hasher,
                    )
                )

    def _complete(self, output: Any, entries: list[tuple[str, int, int, bool]]) -> None:
        self.now += STEP_TIME(
            StepLoad(
                sum(tokens for _, tokens, _, _ in entries),
                len(entries),
                0,
                sum(sum(range(before + 1, before + tokens + 1)) for _, tokens, before, _ in entries),
                sum(before + tokens for _, tokens, before, _ in entries),
            )
        )
        while self._aborts and self._aborts[0][0] < self.now:
            at = self._aborts.popleft()[1]
            if at in self._arrivals:
                self._gone.add(at)
            else:
                self.scheduler.finish_requests(str(at), RequestStatus.FINISHED_ABORTED)
        names = [name for name, _, _, _ in entries]
        answer = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: at for at, name in enumerate(names)},
            sampled_token_ids=[[self._sample(int(name))] if samples else [] for name, _, _, samples in entries],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
        for outputs in self.scheduler.update_from_output(output, answer).values():
            self._note(outputs)

    def _sample(self, at: int) -> int:
        one = self.asked[at]
        token = one.output[one.given] if one.given < len(one.output) else FILLER
        one.given += 1
        return token

    def _note(self, outputs: Any) -> None:
        totals = self.totals
        for output in outputs.outputs:
            one = self.asked[int(output.request_id)]
            totals.generated += len(output.new_token_ids)
            preempted = sum(event.type == EngineCoreEventType.PREEMPTED for event in output.events or ())
            totals.preemptions += preempted
            one.preemptions += preempted
            if output.prefill_stats is not None and one.first is None:
                one.first = self.now
                one.cached = output.prefill_stats.num_cached_tokens
            if output.finish_reason is not None:
                one.finished = self.now
        stats = outputs.scheduler_stats
        if stats is not None:
            totals.queries += stats.prefix_cache_stats.queries
            totals.hits += stats.prefix_cache_stats.hits
            self.snapshots.append(
                Snapshot(self.now, stats.kv_cache_usage, stats.num_running_reqs, stats.num_waiting_reqs, totals.copy())
            )


def as_vllm_sees_it(played: Played) -> list[Asked]:
    ids: dict[Any, int] = {}

    def id_of(token: Any) -> int:
        return ids.setdefault(token, FILLER + 1 + len(ids))

    return [
        Asked(
            prompt=[id_of(token) for token in tokens_of(one.prompt)],
            output=[id_of((one.output_id, offset)) for offset in range(one.max_output_tokens)],
            time=one.time,
            aborted=one.aborted,
        )
        for one in played.submissions
    ]


def differences(load: Load, played: Played, loop: Loop) -> list[str]:
    """Where the embedded engine and vLLM disagree: each request's times and counts, and all that is published."""
    found = []
    for at, (ours, theirs) in enumerate(zip(played.requests, loop.asked, strict=True)):
        if ours.phase.value != "finished":
            if theirs.finished is not None:
                found.append(f"request {at} is {ours.phase.value}, and finished in vLLM")
            continue
        mine = (ours.first_token, ours.finished, ours.cached_tokens, ours.preemptions)
        other = (theirs.first, theirs.finished, theirs.cached, theirs.preemptions)
        if mine != other:
            found.append(f"request {at}: {mine}, in vLLM {other}")
    times = [one.time for one in loop.snapshots]
    for engine, theirs in zip(repeat(load, played, times), loop.snapshots, strict=True):
        counters = engine.counters
        ours = Snapshot(
            theirs.time,
            counters.kv_cache_usage_perc,
            counters.num_requests_running,
            counters.num_requests_waiting,
            Totals(
                counters.prefix_cache_queries,
                counters.prefix_cache_hits,
                counters.num_preemptions,
                counters.generation_tokens,
            ),
        )
        if ours != theirs:
            found.append(f"{ours}, in vLLM {theirs}")
    return found


def random_load(seed: int, *, asynchronous: bool, aborts: bool) -> Load:
    draw = random.Random(seed)
    budget = draw.choice([8, 13, 32, 64, 500])
    return Load(
        seed=seed,
        blocks=draw.randint(30, draw.choice([50, 160])),
        block_size=draw.choice([2, 4, 8]),
        agents=draw.randint(1, 16),
        turns=draw.randint(1, 7),
        longest_output=draw.choice([20, 100]),
        limits=SchedulerLimits(
            max_num_batched_tokens=budget,
            max_num_seqs=draw.choice([1, 2, 3, 5, 8]),
            watermark=draw.choice([0, 0, 0.05, 0.2]),
            async_scheduling=asynchronous,
        ),
        abort_share=0.3 if aborts else 0.0,
    )


def main() -> None:
    folder, first, last, *mode = sys.argv[1:]
    init_none_hash(sha256)
    model = ModelConfig(
        model=folder, tokenizer=folder, skip_tokenizer_init=True, dtype="bfloat16", seed=1, max_model_len=LONGEST
    )
    told: dict[str, Any] = {"loads": 0, "steps": 0, "preemptions": 0, "hits": 0, "evicted": 0, "differing": {}}
    for seed in range(int(first), int(last)):
        load = random_load(seed, asynchronous="async" in mode, aborts="aborts" in mode)
        played = play(load)
        loop = Loop(load, make_scheduler(load, model), as_vllm_sees_it(played))
        loop.run()
        told["loads"] += 1
        told["steps"] += len(loop.snapshots)
        told["preemptions"] += sum(request.preemptions for request in played.requests)
        told["hits"] += played.engine.counters.prefix_cache_hits
        told["evicted"] += played.engine.evicted_blocks
        if found := differences(load, played, loop):
            told["differing"][seed] = found[:3]
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
