"""The engine does what vLLM's code does, request by request and step by step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.loads import STEP_TIME, Load, play, repeat
from simulation.naive_vllm import Hashes, NaiveServer
from simulation.test_blocks import idle_hashes

from concur_agents.simulation import SchedulerLimits


def loads(*, asynchronous: bool, abort_share: float) -> st.SearchStrategy[Load]:
    """Small caches under pressure; budgets that cut prompts; few places; a watermark now and then."""
    limits = st.builds(
        SchedulerLimits,
        max_num_batched_tokens=st.sampled_from([8, 13, 32, 500]),
        max_num_seqs=st.sampled_from([1, 3, 8]),
        watermark=st.sampled_from([0.0, 0.0, 0.1]),
        async_scheduling=st.just(asynchronous),
    )
    return st.builds(
        Load,
        seed=st.integers(0, 10**6),
        blocks=st.integers(30, 120),
        block_size=st.sampled_from([2, 4, 5]),
        agents=st.integers(1, 12),
        turns=st.integers(1, 6),
        longest_output=st.sampled_from([20, 100]),
        limits=limits,
        abort_share=st.just(abort_share),
    )


def agree(load: Load) -> None:
    played = play(load)
    hashes = Hashes(load.block_size)
    vllm = NaiveServer(
        played.submissions,
        blocks=load.blocks,
        block_size=load.block_size,
        limits=load.limits,
        step_time=STEP_TIME,
        hashes=hashes,
    )
    vllm.run()
    for request, naive in zip(played.requests, vllm.requests, strict=True):
        assert request.phase.value == naive.status
        assert request.preemptions == naive.preemptions
        if naive.scheduled >= 0:
            assert request.cached_tokens == naive.cached_tokens
            assert (request.queued, request.scheduled) == (naive.queued, naive.scheduled)
        if naive.status == "finished":
            assert (request.first_token, request.finished) == (naive.first_token, naive.finished)

    steps = [seen.time for seen in vllm.snapshots]
    for engine, seen in zip(repeat(load, played, steps), vllm.snapshots, strict=True):
        counters = engine.counters
        assert (counters.num_requests_running, counters.num_requests_waiting) == (seen.running, seen.waiting)
        assert counters.kv_cache_usage_perc == seen.usage
        assert (counters.prefix_cache_queries, counters.prefix_cache_hits) == (seen.queries, seen.hits)
        assert counters.num_preemptions == seen.preemptions
        assert (counters.prompt_tokens, counters.generation_tokens) == (seen.prompt_tokens, seen.generated)
        assert engine.evicted_blocks >= seen.evicted  # the next step is scheduled already
        if engine.next_event() is None:
            assert engine.evicted_blocks == seen.evicted
            assert tuple(idle_hashes(engine._cache, hashes)) == seen.idle


@given(loads(asynchronous=False, abort_share=0.0))
@settings(max_examples=150, deadline=None)
def test_every_request_and_every_step_is_as_in_vllm(load):
    agree(load)


@given(loads(asynchronous=True, abort_share=0.0))
@settings(max_examples=150, deadline=None)
def test_every_request_and_every_step_is_as_in_vllm_with_asynchronous_scheduling(load):
    agree(load)


@given(loads(asynchronous=False, abort_share=0.3))
@settings(max_examples=100, deadline=None)
def test_every_request_and_every_step_is_as_in_vllm_when_clients_give_up(load):
    agree(load)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_random_loads_preempt_evict_hit_and_wait(asynchronous):
    """Else the comparisons above would say little."""
    preemptions = evicted = hits = waited = 0
    for seed in range(30):
        limits = SchedulerLimits(max_num_batched_tokens=32, max_num_seqs=8, async_scheduling=asynchronous)
        played = play(Load(seed, blocks=35, agents=10, limits=limits))
        preemptions += sum(request.preemptions for request in played.requests)
        evicted += played.engine.evicted_blocks
        hits += played.engine.counters.prefix_cache_hits
        waited += sum(request.queue_time > 0 for request in played.requests)
    assert preemptions > 30
    assert evicted > 1000
    assert hits > 3000
    assert waited > 100


@given(loads(asynchronous=True, abort_share=0.3))
@settings(max_examples=100, deadline=None)
def test_every_request_and_every_step_is_as_in_vllm_when_clients_give_up_under_asynchronous_scheduling(load):
    agree(load)
