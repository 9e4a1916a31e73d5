"""What a client of the engine sees."""

from __future__ import annotations

import pytest

from concur_agents.simulation import (
    Engine,
    Finished,
    FirstToken,
    LinearStepTime,
    Phase,
    Prompt,
    RequestRefused,
    SchedulerLimits,
)

SYNCHRONOUS = SchedulerLimits(max_num_batched_tokens=2048, max_num_seqs=128, async_scheduling=False)


def engine_of(blocks: int = 101, *, block_size: int = 4, limits: SchedulerLimits = SYNCHRONOUS, **more) -> Engine:
    """An engine whose steps take a second each."""
    return Engine(blocks, LinearStepTime(step=1.0), block_size=block_size, limits=limits, **more)


def run_out(engine: Engine) -> list[tuple[float, str]]:
    """Advance until nothing is left to do."""
    events = []
    while (time := engine.next_event()) is not None:
        events += [(event.time, type(event).__name__) for event in engine.advance(time)]
    return events


def test_a_request_alone_prefills_in_a_step_and_then_gets_a_token_a_step():
    engine = engine_of()
    request = engine.submit(5.0, Prompt([("task", 10)]), 3)
    assert engine.next_event() == 5.0
    assert engine.advance(5.0) == []
    assert engine.next_event() == 6.0
    assert engine.advance(6.0) == [FirstToken(6.0, request)]
    assert engine.generated(request) == 1
    assert engine.next_event() == 8.0
    assert engine.advance(7.5) == []
    assert engine.generated(request) == 2
    assert engine.advance(20.0) == [Finished(8.0, request)]
    assert (request.prompt_tokens, request.cached_tokens, request.generated) == (10, 0, 3)
    assert (request.arrived, request.queued, request.scheduled, request.first_token) == (5.0, 5.0, 5.0, 6.0)
    assert (request.queue_time, request.prefill_time, request.decode_time) == (0.0, 1.0, 2.0)
    assert (request.inference_time, request.latency, request.time_to_first_token) == (3.0, 3.0, 1.0)
    assert request.time_per_output_token == 1.0
    assert engine.next_event() is None


def test_one_token_of_output_is_first_and_last():
    engine = engine_of()
    engine.submit(0.0, Prompt([("task", 10)]), 1)
    assert run_out(engine) == [(1.0, "FirstToken"), (1.0, "Finished")]


def test_all_that_arrive_at_an_idle_engine_at_one_instant_start_together():
    engine = engine_of()
    for name in "abc":
        engine.submit(0.0, Prompt([(name, 10)]), 1)
    assert run_out(engine) == [(1.0, "FirstToken")] * 3 + [(1.0, "Finished")] * 3


@pytest.mark.parametrize(("asynchronous", "first_token"), [(False, 2.0), (True, 3.0)])
def test_what_arrives_during_a_step_joins_the_next_or_with_asynchronous_scheduling_the_one_after(
    asynchronous, first_token
):
    engine = engine_of(limits=SchedulerLimits(async_scheduling=asynchronous))
    engine.submit(0.0, Prompt([("a", 10)]), 9)
    late = engine.submit(0.5, Prompt([("b", 10)]), 9)
    run_out(engine)
    assert late.first_token == first_token
    assert late.queued == 1.0


def test_what_is_submitted_at_the_end_of_a_step_waits_for_the_step_after_the_next():
    engine = engine_of()
    engine.submit(0.0, Prompt([("a", 10)]), 9)
    engine.advance(1.0)
    late = engine.submit(1.0, Prompt([("b", 10)]), 9)
    run_out(engine)
    assert late.scheduled == 2.0


def test_a_long_prompt_is_computed_in_chunks_beside_those_who_decode():
    loads = []

    def step_time(load):
        loads.append(load)
        return 1.0

    engine = Engine(
        101,
        step_time,
        block_size=4,
        limits=SchedulerLimits(max_num_batched_tokens=8, max_num_seqs=4, async_scheduling=False),
    )
    engine.submit(0.0, Prompt([("a", 5)]), 9)
    late = engine.submit(0.5, Prompt([("b", 16)]), 2)
    engine.advance(4.0)
    assert late.first_token == 4.0
    assert [(load.tokens, load.requests, load.decodes) for load in loads[-4:]] == [
        (8, 2, 1),
        (8, 2, 1),
        (3, 2, 1),
        (2, 2, 2),
    ]
    # One token after 5, 6 and 7 others; 7, 7 and 2 tokens after 0, 7 and 14.
    assert [load.attended for load in loads[-4:-1]] == [6 + 28, 7 + 7 * 7 + 28, 8 + 2 * 14 + 3]
    assert [load.read for load in loads[-4:-1]] == [6 + 7, 7 + 14, 8 + 16]


def test_a_turn_finds_the_whole_blocks_of_what_came_before_but_never_its_own_last_token():
    engine = engine_of()
    first = engine.submit(0.0, Prompt([("system", 10), ("task", 5)]), 8, output_id="out")
    run_out(engine)
    # 15 + 8 tokens, the last of which was never computed: 22 in the cache, 5 blocks of 4.
    follow_up = engine.submit(50.0, first.prompt.then(("out", 8), ("tool", 30)), 1)
    again = engine.submit(100.0, Prompt([("system", 10), ("task", 5)]), 1)
    whole_blocks = engine.submit(150.0, Prompt([("system", 10), ("task", 2)]), 1)
    run_out(engine)
    assert follow_up.cached_tokens == 20
    assert again.cached_tokens == 12
    assert whole_blocks.cached_tokens == 8


def test_an_output_of_which_only_a_part_returns_is_found_in_part():
    engine = engine_of()
    first = engine.submit(0.0, Prompt([("task", 16)]), 20, output_id="out")
    run_out(engine)
    second = engine.submit(50.0, first.prompt.then(("out", 9), ("tool", 30)), 1)
    run_out(engine)
    assert second.cached_tokens == 24  # 16 + 9, in whole blocks


def test_two_agents_with_one_system_prompt_share_its_whole_blocks():
    engine = engine_of()
    engine.submit(0.0, Prompt([("system", 18), ("a", 9)]), 1)
    other = engine.submit(0.0, Prompt([("system", 18), ("b", 9)]), 1)
    run_out(engine)
    assert other.cached_tokens == 16  # of a prompt scheduled in the same step


def test_idle_contexts_count_as_free_and_are_evicted_oldest_and_end_first():
    engine = engine_of(11)  # 10 usable blocks
    engine.submit(0.0, Prompt([("a", 17)]), 1)  # 4 full blocks and one more
    engine.submit(10.0, Prompt([("b", 17)]), 1)
    run_out(engine)
    assert engine.counters.kv_cache_usage_perc == 0.0
    # Two blocks are blank, so 4 of these 6 evict: nothing but the context that is longest idle.
    engine.submit(20.0, Prompt([("c", 21)]), 1)
    run_out(engine)
    assert engine.evicted_blocks == 4
    kept = engine.submit(30.0, Prompt([("b", 17)]), 1)
    run_out(engine)
    assert kept.cached_tokens == 16
    lost = engine.submit(40.0, Prompt([("a", 17)]), 1)
    run_out(engine)
    assert lost.cached_tokens == 0


def test_a_prompt_waits_until_it_fits_whole_and_nobody_passes_it():
    engine = engine_of(11, limits=SchedulerLimits(max_num_batched_tokens=8, max_num_seqs=8, async_scheduling=False))
    engine.submit(0.0, Prompt([("a", 8)]), 6)  # grows to 4 blocks of 10
    big = engine.submit(0.5, Prompt([("b", 33)]), 1)  # 9 blocks, though its first chunk would fit
    small = engine.submit(0.6, Prompt([("c", 4)]), 1)
    engine.advance(3.5)
    assert (big.phase, small.phase) == (Phase.WAITING, Phase.WAITING)
    assert (engine.counters.num_requests_running, engine.counters.num_requests_waiting) == (1, 2)
    run_out(engine)
    assert big.scheduled == 6.0
    assert small.scheduled > big.scheduled


def test_no_more_run_than_max_num_seqs():
    engine = engine_of(limits=SchedulerLimits(max_num_batched_tokens=100, max_num_seqs=2, async_scheduling=False))
    requests = [engine.submit(0.0, Prompt([(name, 4)]), 5) for name in range(5)]
    run_out(engine)
    assert [request.scheduled for request in requests] == [0.0, 0.0, 5.0, 5.0, 10.0]


def test_a_watermark_keeps_blocks_free_when_others_run():
    limits = SchedulerLimits(max_num_batched_tokens=100, max_num_seqs=8, watermark=0.5, async_scheduling=False)
    engine = engine_of(11, limits=limits)
    alone = engine.submit(0.0, Prompt([("a", 30)]), 1)  # 8 of 10 blocks
    beside = engine.submit(0.0, Prompt([("b", 4)]), 1)
    run_out(engine)
    assert (alone.scheduled, beside.scheduled) == (0.0, 1.0)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_without_free_blocks_the_last_admitted_starts_again_and_is_not_counted_twice(asynchronous):
    limits = SchedulerLimits(max_num_batched_tokens=100, max_num_seqs=8, async_scheduling=asynchronous)
    engine = engine_of(11, limits=limits)
    first = engine.submit(0.0, Prompt([("a", 12)]), 20)
    last = engine.submit(0.0, Prompt([("b", 12)]), 20)
    run_out(engine)
    assert (first.preemptions, last.preemptions) == (0, 1)
    assert first.finished == 20.0
    assert last.finished > 30.0
    assert last.generated == 20
    counters = engine.counters
    assert counters.num_preemptions == 1
    assert counters.prefix_cache_queries == counters.prompt_tokens == 24
    assert counters.prefix_cache_hits == last.cached_tokens == 0
    assert counters.generation_tokens == 40


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_abort_frees_the_blocks_at_the_end_of_the_step_and_leaves_what_was_computed(asynchronous):
    limits = SchedulerLimits(max_num_batched_tokens=100, max_num_seqs=8, async_scheduling=asynchronous)
    engine = engine_of(limits=limits)
    request = engine.submit(0.0, Prompt([("a", 20)]), 50, output_id="out")
    engine.advance(5.2)
    assert engine.counters.kv_cache_usage_perc > 0
    engine.abort(5.5, request)
    assert run_out(engine) == []
    assert request.phase is Phase.ABORTED
    assert engine.counters.kv_cache_usage_perc == 0.0
    assert engine.counters.num_requests_running == 0
    assert engine.counters.generation_tokens == 5
    assert engine.counters.request_success == 0
    back = engine.submit(100.0, request.prompt.then(("out", 4), ("more", 9)), 1)
    run_out(engine)
    assert back.cached_tokens == 24


def test_an_abort_before_the_engine_looked_leaves_no_trace():
    engine = engine_of()
    request = engine.submit(0.0, Prompt([("a", 20)]), 5)
    engine.abort(0.0, request)
    assert engine.next_event() is None
    assert request.phase is Phase.ABORTED
    assert engine.counters.prefix_cache_queries == 0


def test_an_abort_of_what_is_over_does_nothing():
    engine = engine_of()
    request = engine.submit(0.0, Prompt([("a", 20)]), 1)
    run_out(engine)
    engine.abort(2.0, request)
    engine.abort(2.0, request)
    assert request.phase is Phase.FINISHED
    assert engine.next_event() is None


def test_gauges_stand_still_between_steps_and_while_idle():
    engine = engine_of()
    engine.submit(0.0, Prompt([("a", 20)]), 4)
    engine.advance(0.9)
    assert engine.counters.num_requests_running == 0
    engine.advance(1.0)
    assert engine.counters.num_requests_running == 1
    run_out(engine)
    engine.advance(1000.0)
    assert engine.counters.num_requests_running == 0
    assert engine.counters.iterations == engine.steps == 4


def test_the_counters_agree_with_the_requests():
    engine = engine_of(40)
    requests = []
    for turn in range(6):
        prompt = Prompt([("system", 22), (turn % 3, 13)])
        requests.append(engine.submit(turn * 2.5, prompt, 5))
    run_out(engine)
    counters = engine.counters
    assert counters.request_success == counters.first_tokens == 6
    assert counters.prompt_tokens == counters.request_prompt_tokens == 6 * 35
    assert counters.prompt_tokens_cached == sum(request.cached_tokens for request in requests) > 0
    assert counters.prompt_tokens_computed == counters.request_prefill_kv_computed_tokens
    assert counters.prompt_tokens_computed == 6 * 35 - counters.prompt_tokens_cached
    assert counters.iteration_tokens == counters.prompt_tokens_computed + counters.generation_tokens
    assert counters.generation_tokens == counters.request_generation_tokens == 30
    assert counters.e2e_request_latency_seconds == sum(request.latency for request in requests)
    assert counters.request_queue_time_seconds == sum(request.queue_time for request in requests)


def test_capacity_is_told_as_vllm_tells_it():
    # `cache_config_info` of a real server with 512 blocks of 32 and 8192 tokens a request.
    assert Engine(513, LinearStepTime(1.0), block_size=32, max_model_len=8192).capacity_tokens == 16416
    assert Engine(512, LinearStepTime(1.0), block_size=32, max_model_len=8192).capacity_tokens == 16384


@pytest.mark.parametrize(
    ("prompt", "outputs", "reason"),
    [
        ([("a", 30)], 11, "maximum context length is 40 tokens"),
        ([("a", 41)], 1, "maximum context length is 40 tokens"),
        ([], 5, "The prompt is empty"),
        ([("a", 5)], 0, "ask for 1 or more"),
    ],
)
def test_what_can_never_be_served_is_refused(prompt, outputs, reason):
    engine = engine_of(11)
    with pytest.raises(RequestRefused, match=reason):
        engine.submit(0.0, Prompt(prompt), outputs)
    assert engine.next_event() is None


def test_the_longest_request_allowed_is_served():
    engine = engine_of(11)
    request = engine.submit(0.0, Prompt([("a", 30)]), 10)
    run_out(engine)
    assert request.phase is Phase.FINISHED


@pytest.mark.parametrize(("blocks", "max_model_len"), [(11, 41), (1, None), (11, 1)])
def test_a_cache_too_small_for_the_model_is_refused(blocks, max_model_len):
    with pytest.raises(ValueError, match=r"max_model_len is .* must be 2 or more|must be 1 or more"):
        engine_of(blocks, max_model_len=max_model_len)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_num_seqs": 0},
        {"max_num_batched_tokens": 100, "max_num_seqs": 101},
        {"watermark": 1.0},
        {"watermark": -0.1},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match="must be"):
        SchedulerLimits(**limits)


def test_time_only_moves_forward():
    engine = engine_of()
    engine.advance(5.0)
    with pytest.raises(ValueError, match=r"time went from 5\.0 to 4\.0"):
        engine.submit(4.0, Prompt([("a", 1)]), 1)
    with pytest.raises(ValueError, match="to nan"):
        engine.advance(float("nan"))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_step_that_takes_no_time_is_refused(seconds):
    engine = Engine(101, lambda load: seconds, block_size=4)
    engine.submit(0.0, Prompt([("a", 1)]), 1)
    with pytest.raises(ValueError, match="must be positive"):
        engine.advance(1.0)
