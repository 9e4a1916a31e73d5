"""The engine on an event loop: what agents await is what the engine does, whoever gives up and whenever."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.loads import STEP_TIME

from concur_agents.simulation import Engine, LinearStepTime, Phase, Prompt, RequestRefused, SchedulerLimits
from concur_agents.simulation.running import STREAM_INTERVAL_S, RunningEngine
from concur_agents.simulation.virtual_time import VirtualLoop, run

SMALL = 60
"""Blocks in which a few requests of `arrivals` preempt each other."""


def engine(blocks: int = 1000, **limits) -> Engine:
    return Engine(blocks, STEP_TIME, block_size=4, limits=SchedulerLimits(**limits))


def now() -> float:
    return asyncio.get_running_loop().time()


def prompt(name, tokens: int = 30) -> Prompt:
    return Prompt([("system", 10), (name, tokens)])


def history(request) -> tuple[float, ...]:
    """Everything of a request that its client or the metrics see."""
    return (
        request.arrived,
        request.queued,
        request.scheduled,
        request.first_token,
        request.finished,
        request.cached_tokens,
        request.generated,
        request.preemptions,
    )


def nothing_is_left(running: RunningEngine) -> None:
    core = running.engine
    assert core.next_event() is None
    assert not running._open
    assert not core._scheduler.running
    assert not core._scheduler.waiting
    assert not core._arrivals
    assert core._cache.free == core._cache.blocks


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_awaited_to_the_instant_of_its_last_token():
    async def main():
        running = RunningEngine(engine())
        await asyncio.sleep(3)
        request = await running.generate(prompt("a"), 20)
        assert request.phase is Phase.FINISHED
        assert (request.arrived, request.finished) == (0.0, pytest.approx(now() - 3))
        assert request.generated == 20
        nothing_is_left(running)

    run(main())


def test_all_that_arrive_at_one_instant_are_in_one_step():
    async def main():
        running = RunningEngine(engine())

        async def ask(name, hops):
            for _ in range(hops):
                await asyncio.sleep(0)
            return await running.generate(prompt(name), 5)

        requests = await asyncio.gather(*(ask(number, hops=number) for number in range(10)))
        assert {(request.arrived, request.scheduled) for request in requests} == {(0.0, 0.0)}
        assert len({request.first_token for request in requests}) == 1
        assert running.engine.steps == 5

    run(main())


@pytest.mark.parametrize(("tokens", "output"), [(0, 5), (30, 0), (30, 10**6)])
def test_what_the_engine_refuses_is_told_and_leaves_nothing(tokens, output):
    async def main():
        running = RunningEngine(engine())
        with pytest.raises(RequestRefused):
            await running.generate(Prompt([("a", tokens)]), output)
        nothing_is_left(running)

    run(main())


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(ValueError, match="give a number above 0"):
        RunningEngine(engine(), speed=speed)


def test_another_loop_is_refused():
    running = RunningEngine(engine())
    run(running.generate(prompt("a"), 5))

    with pytest.raises(RuntimeError, match="another event loop"):
        run(running.generate(prompt("b"), 5))


def test_counters_are_those_of_the_present():
    async def main():
        running = RunningEngine(engine())
        asking = asyncio.create_task(running.generate(prompt("a"), 50))
        await asyncio.sleep(0.2)
        seen = running.counters()
        assert seen.num_requests_running == 1
        assert 0 < seen.generation_tokens < 50
        await asking
        assert running.counters().generation_tokens == 50
        assert running.counters().num_requests_running == 0

    run(main())


def test_an_engine_with_nothing_to_do_sets_no_timer():
    async def main():
        running = RunningEngine(engine())
        request = await running.generate(prompt("a"), 5)
        await asyncio.sleep(1e6)
        assert running._timer is None
        later = await running.generate(prompt("b"), 5)
        assert later.arrived == pytest.approx(1e6 + request.finished)

    run(main())


# --- the clock --------------------------------------------------------------------------------------------------------

arrivals = st.lists(
    # When [s], prompt, output [tokens]. Times are equal or well apart: asyncio takes those within 1 ns for one.
    st.tuples(st.integers(0, 128).map(lambda n: n / 64), st.integers(1, 40), st.integers(1, 40)),
    min_size=1,
    max_size=12,
)


def by_hand(load, order) -> list[tuple[float, ...]]:
    """The same requests on an engine driven by itself: told of arrivals in their order, at their times."""
    core = engine(SMALL)
    requests = {}
    for number in order:
        when, tokens, output = load[number]
        while (due := core.next_event()) is not None and due <= when and not (due == when and core._arrivals):
            core.advance(due)
        requests[number] = core.submit(when, prompt(number, tokens), output)
    while (due := core.next_event()) is not None:
        core.advance(due)
    return [history(requests[number]) for number in range(len(load))]


async def on_the_loop(load, order, *, speed: float = 1.0) -> list[tuple[float, ...]]:
    """Every request from an agent of its own; `order` gets their order, for asyncio keeps none of equal timers."""
    running = RunningEngine(engine(SMALL), speed=speed)
    running.now()

    async def ask(number, when, tokens, output):
        await asyncio.sleep(when / speed)
        order.append(number)
        return history(await running.generate(prompt(number, tokens), output))

    results = await asyncio.gather(*(ask(number, *one) for number, one in enumerate(load)))
    nothing_is_left(running)
    return results


def same(ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]], *, within_s: float = 1e-9) -> None:
    """Equal but for the last digits of times."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=within_s)


@given(arrivals)
@settings(deadline=None)
def test_requests_have_the_times_of_an_engine_that_is_driven_by_hand(load):
    order = []
    same(run(on_the_loop(load, order)), by_hand(load, order))


@given(arrivals)
@settings(deadline=None)
def test_at_twenty_times_the_speed_every_engine_second_is_the_same(load):
    order = []
    same(run(on_the_loop(load, order, speed=20.0)), by_hand(load, order))


@pytest.mark.parametrize("speed", [0.3, 1.0, 20.0, 1234.5])
@pytest.mark.parametrize("start", [0.0, 0.3, 12345.6789])
def test_no_rounding_of_the_clock_stops_it(start, speed):
    load = [(0.1 * number, 20 + number, 5 + 3 * number) for number in range(8)]
    order = []

    async def later():
        await asyncio.sleep(start)
        began = now()
        results = await on_the_loop(load, order, speed=speed)
        assert (now() - began) * speed == pytest.approx(max(result[4] for result in results), abs=1e-4)
        return results

    same(run(later()), by_hand(load, order), within_s=1e-4)


# --- giving up --------------------------------------------------------------------------------------------------------


@given(arrivals, st.lists(st.tuples(st.integers(0, 11), st.floats(0, 3)), max_size=8), st.booleans())
@settings(deadline=None, max_examples=200)
def test_whoever_is_cancelled_leaves_the_engine_and_all_others_finish(load, cancels, async_scheduling):
    async def main():
        running = RunningEngine(engine(SMALL, async_scheduling=async_scheduling))
        running.now()
        given_up = {}

        async def ask(number, when, tokens, output):
            await asyncio.sleep(when)
            asked = prompt(number, tokens)
            try:
                return await running.generate(asked, output)
            except asyncio.CancelledError:
                given_up.update((one, now()) for one in sent if one.prompt is asked)
                raise

        sent = []
        submit = running.engine.submit
        running.engine.submit = lambda *args, **options: sent.append(submit(*args, **options)) or sent[-1]

        tasks = [asyncio.create_task(ask(number, *one)) for number, one in enumerate(load)]
        for number, when in cancels:
            if number < len(tasks):
                asyncio.get_running_loop().call_later(when, tasks[number].cancel)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not running._open
        await asyncio.sleep(1000)  # the running step ends
        nothing_is_left(running)

        for request, when in given_up.items():
            assert request.phase is Phase.ABORTED or request.finished <= when + 1e-6
        cancelled = {number for number, _ in cancels}
        done = []
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, asyncio.CancelledError)
                assert number in cancelled
            else:
                assert (outcome.phase, outcome.generated) == (Phase.FINISHED, load[number][2])
                done.append(outcome)
        seen = running.counters()
        # One that is cancelled at the very instant of its last token has finished for the engine.
        assert len(done) <= seen.request_success <= len(load)
        assert seen.request_success > len(done) or seen.request_generation_tokens == sum(r.generated for r in done)
        assert seen.generation_tokens >= seen.request_generation_tokens >= sum(r.generated for r in done)
        assert seen.prompt_tokens >= seen.request_prompt_tokens >= sum(r.prompt_tokens for r in done)
        assert seen.first_tokens <= len(load)
        assert (seen.num_requests_running, seen.num_requests_waiting) == (0, 0)
        assert seen.kv_cache_usage_perc == 0

    run(main())


def test_who_waits_for_a_request_that_another_gives_up_is_cancelled():
    async def main():
        running = RunningEngine(engine())
        generation = running.open(prompt("a"), 50)
        waiting = asyncio.create_task(generation.finished())
        await asyncio.sleep(0.1)
        generation.abort()
        generation.abort()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await asyncio.sleep(1)
        assert generation.request.phase is Phase.ABORTED
        nothing_is_left(running)

    run(main())


def test_giving_up_what_is_over_changes_nothing():
    async def main():
        running = RunningEngine(engine())
        generation = running.open(prompt("a"), 5)
        request = await generation.finished()
        generation.abort()
        assert await generation.finished() is request
        assert request.phase is Phase.FINISHED
        assert running.counters().request_success == 1

    run(main())


def test_one_of_many_who_wait_for_the_end_may_be_cancelled_alone():
    async def main():
        running = RunningEngine(engine())
        generation = running.open(prompt("a"), 50)
        one, other = (asyncio.create_task(generation.finished()) for _ in range(2))
        await asyncio.sleep(0.1)
        one.cancel()
        assert (await other).generated == 50
        assert one.cancelled()

    run(main())


def test_a_request_given_up_before_the_engine_looked_costs_it_nothing():
    async def main():
        running = RunningEngine(engine())
        running.open(prompt("a"), 50).abort()
        await asyncio.sleep(1)
        assert running.engine.steps == 0
        nothing_is_left(running)

    run(main())


# --- streams ----------------------------------------------------------------------------------------------------------


@given(arrivals, st.sampled_from([SMALL, 1000]))
@settings(deadline=None)
def test_a_stream_begins_with_the_first_token_only_grows_and_ends_with_all(load, blocks):
    async def main():
        running = RunningEngine(engine(blocks))

        async def read(number, when, tokens, output):
            await asyncio.sleep(when)
            generation = running.open(prompt(number, tokens), output)
            seen = [(now(), count) async for count in generation.tokens()]
            request = generation.request
            assert seen[0][0] == pytest.approx(request.first_token + began)
            assert seen[-1] == (pytest.approx(request.finished + began), output)
            counts = [count for _, count in seen]
            assert counts == sorted(set(counts))
            assert counts[0] >= 1

        began = now()
        running.now()
        await asyncio.gather(*(read(number, *one) for number, one in enumerate(load)))
        nothing_is_left(running)

    run(main())


def test_a_stream_looks_a_few_times_a_second_and_not_at_every_step():
    async def main():
        running = RunningEngine(Engine(1000, LinearStepTime(0.01)))
        seen = [(now(), count) async for count in running.open(prompt("a"), 200).tokens()]
        assert len(seen) == pytest.approx(2.0 / STREAM_INTERVAL_S, abs=2)
        for when, count in seen:
            assert count == pytest.approx(when / 0.01, abs=1.01)

    run(main())


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3])
def test_closing_a_stream_early_gives_the_request_up(seconds):
    async def main():
        running = RunningEngine(engine())
        generation = running.open(prompt("a"), 200)
        async with aclosing(generation.tokens()) as stream:
            async for _ in stream:
                await asyncio.sleep(seconds)
                break
        await asyncio.sleep(1)
        assert generation.request.phase is Phase.ABORTED
        assert running.counters().request_success == 0
        nothing_is_left(running)

    run(main())


@pytest.mark.parametrize("after", [0.0, 0.001, 0.02, 0.3])
def test_a_reader_that_is_cancelled_gives_the_request_up(after):
    async def main():
        running = RunningEngine(engine())
        generation = running.open(prompt("a"), 200)

        async def read():
            async for _ in generation.tokens():
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(after)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        await asyncio.sleep(1)
        nothing_is_left(running)

    run(main())


@pytest.mark.parametrize("after", [0.001, 0.3])
def test_a_stream_whose_request_another_gives_up_is_cancelled(after):
    async def main():
        running = RunningEngine(engine())
        generation = running.open(prompt("a"), 200)

        async def read():
            async for _ in generation.tokens():
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(after)
        generation.abort()
        await asyncio.wait([reading])
        assert reading.cancelled()

    run(main())


def test_on_a_real_loop_a_fast_engine_serves_a_minute_in_no_time():
    async def main():
        running = RunningEngine(Engine(1000, LinearStepTime(0.5)), speed=10_000)
        request = await running.generate(prompt("a"), 120)
        assert request.latency == pytest.approx(60)
        assert running.now() >= request.finished

    loop = asyncio.new_event_loop()
    assert not isinstance(loop, VirtualLoop)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
