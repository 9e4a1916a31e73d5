"""`gate.map`: results in order, items taken only as agents are admitted, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents import ConcurGate, GateClosed
from concur_agents.pool.batch import HELD_RESULTS
from concur_agents.simulation.virtual_time import run


def make_gate(controller="fixed:2"):
    return ConcurGate(controller=controller)


class Solver:
    """Solves numbers, and notes what it did; `errors` by number are raised, once each."""

    def __init__(self, *, seconds=lambda number: 1.0, errors=None):
        self.seconds = seconds
        self.errors = errors or {}
        self.began = []
        self.cancelled = []
        self.running = 0

    async def __call__(self, number):
        self.began.append(number)
        self.running += 1
        try:
            await asyncio.sleep(self.seconds(number))
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1
        if number in self.errors:
            raise self.errors[number]
        return number * 10


def empty(gate):
    return gate.admission.live == gate.stats().active == gate.stats().queued == 0


def test_results_come_in_the_order_of_the_items_whatever_ends_first():
    async def main():
        gate = make_gate("fixed:3")
        solve = Solver(seconds=lambda number: 10 - number)
        results = [result async for result in gate.map(solve, range(7))]
        assert empty(gate)
        return results

    assert run(main()) == [0, 10, 20, 30, 40, 50, 60]


def test_awaited_it_gives_a_list():
    async def main():
        gate = make_gate()
        assert await gate.map(Solver(), []) == []
        first, second = await asyncio.gather(gate.map(Solver(), range(3)), asyncio.wait_for(gate.map(Solver(), [7]), 5))
        return first, second

    assert run(main()) == ([0, 10, 20], [70])


def test_items_may_come_from_an_async_iterable_that_is_slower_than_the_agents():
    async def items():
        for number in range(4):
            await asyncio.sleep(5)
            yield number

    async def main():
        times = []
        async for result in make_gate().map(Solver(), items()):
            times.append((asyncio.get_running_loop().time(), result))  # noqa: PERF401  the time is that of the loop
        return times

    assert run(main()) == [(6, 0), (11, 10), (16, 20), (21, 30)]


def test_each_call_is_an_agent_of_the_kind_given():
    async def main():
        gate = make_gate()

        async def look(_):
            return gate.current().kind, gate.stats().active

        return await gate.map(look, [1], kind="coder")

    assert run(main()) == [("coder", 1)]


def test_an_item_may_tell_its_agents_name_and_kind():
    gate = ConcurGate(controller="none")

    async def look(item):
        agent = gate.current()
        return agent.name, agent.kind

    async def main():
        return await gate.map(look, [1, 2], name=lambda item: f"task-{item}", kind=lambda item: f"kind-{item % 2}")

    assert run(main()) == [("task-1", "kind-1"), ("task-2", "kind-0")]


def test_an_item_whose_name_cannot_be_told_fails_as_the_item():
    async def main():
        gate = ConcurGate(controller="none")

        async def double(item):
            return 2 * item

        results = await gate.map(double, [1, 2], name=lambda item: ["one"][item - 1], return_exceptions=True)
        return results, gate.stats().active

    [first, second], active = run(main())
    assert first == 2
    assert isinstance(second, IndexError)
    assert active == 0


def test_inside_an_agent_they_share_its_place_unless_they_are_to_have_their_own():
    async def main(nested):
        gate = make_gate("fixed:2")
        solve = Solver()
        async with gate.agent("orchestrator"):
            pending = asyncio.ensure_future(gate.map(solve, range(5), nested=nested))
            await asyncio.sleep(0.5)
            running = solve.running
            await pending
        assert empty(gate)
        return running

    assert run(main("inherit")) == 5
    assert run(main("new")) == 2


@given(
    items=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    places=st.integers(1, 4),
    reader_s=st.integers(0, 3),
    source_s=st.integers(0, 3),
    return_exceptions=st.booleans(),
)
def test_whatever_the_times_and_errors_it_gives_what_one_after_the_other_would_give(
    items, places, reader_s, source_s, return_exceptions
):
    """Each item is how long it takes, and whether it fails."""

    async def source():
        for number, item in enumerate(items):
            await asyncio.sleep(source_s)
            yield number, *item

    async def main():
        gate = make_gate(f"fixed:{places}")

        async def solve(item):
            number, seconds, fails = item
            assert gate.stats().active <= places
            await asyncio.sleep(seconds)
            if fails:
                raise KeyError(number)
            return number

        results = []
        try:
            async for result in gate.map(solve, source(), return_exceptions=return_exceptions):
                results.append(str(result))
                await asyncio.sleep(reader_s)
        except KeyError as error:
            results.append(f"raised {error}")
        assert empty(gate)
        assert len(asyncio.all_tasks()) == 1
        return results

    expected = []
    for number, (_, fails) in enumerate(items):
        if fails and not return_exceptions:
            expected.append(f"raised {number}")
            break
        expected.append(str(number))
    assert run(main()) == expected


# ---------------------------------------------------------------- laziness and memory


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("places", [1, 4])
def test_one_item_waits_beside_those_that_run_and_the_others_are_not_even_made(places, is_async):
    taken = 0

    def items():
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield number

    async def async_items():
        for number in items():
            yield number

    async def main():
        gate = make_gate(f"fixed:{places}")
        async with contextlib.aclosing(gate.map(Solver(), async_items() if is_async else items())) as results:
            given = 0
            async for _ in results:
                given += 1
                await asyncio.sleep(0)
                assert taken - given <= 2 * places + 1
                if given == 50:
                    break
        assert empty(gate)

    run(main())


def test_of_100_000_items_never_more_than_a_bound_are_ahead_of_a_slow_reader():
    taken = 0

    def items():
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield number

    async def main():
        gate = make_gate("fixed:8")
        ahead = 0
        async with contextlib.aclosing(gate.map(Solver(seconds=lambda _: 0), items())) as results:
            for given in range(5):
                await anext(results)
                await asyncio.sleep(10_000)
                ahead = max(ahead, taken - given - 1)
        assert empty(gate)
        return ahead

    assert HELD_RESULTS <= run(main()) <= HELD_RESULTS + 8 + 1


def test_a_slow_first_item_holds_the_others_up_only_past_the_bound():
    solve = Solver(seconds=lambda number: 100_000 if number == 0 else 1)

    async def main():
        gate = make_gate("fixed:4")
        async with contextlib.aclosing(gate.map(solve, itertools.count())) as results:
            await anext(results)
        assert empty(gate)

    run(main())
    assert HELD_RESULTS <= len(solve.began) <= HELD_RESULTS + 5


def test_awaited_a_slow_first_item_holds_nobody_up():
    solve = Solver(seconds=lambda number: 100_000 if number == 0 else 1)

    async def main():
        return len(await make_gate("fixed:4").map(solve, range(3000)))

    assert run(main()) == 3000
    assert solve.began == list(range(3000))


def test_nothing_is_taken_or_run_before_the_first_result_is_asked_for():
    solve = Solver()
    items = iter(range(3))

    async def main():
        batch = make_gate().map(solve, items)
        await asyncio.sleep(5)
        del batch

    run(main())
    gc.collect(1)
    assert solve.began == []
    assert list(items) == [0, 1, 2]


# ---------------------------------------------------------------- errors


def test_an_error_is_raised_at_its_place_and_the_rest_is_cancelled_and_awaited():
    async def main():
        gate = make_gate("fixed:3")
        solve = Solver(
            seconds=lambda number: 5 if number == 0 else 1 if number == 1 else 60, errors={1: KeyError("one")}
        )
        results = []
        with pytest.raises(KeyError):
            await read(gate.map(solve, range(100)), results)
        assert empty(gate)
        assert solve.running == 0
        return results, asyncio.get_running_loop().time(), solve

    results, time, solve = run(main())
    assert (results, time) == ([0], 5)
    assert solve.cancelled == [2, 3]
    assert solve.began == [0, 1, 2, 3], "after the failure no item is taken any more"


async def read(batch, results):
    async for result in batch:
        results.append(result)


def test_errors_stand_among_the_results_on_demand():
    async def main():
        errors = {1: KeyError(), 2: asyncio.CancelledError()}
        results = await make_gate().map(Solver(errors=errors), range(4), return_exceptions=True)
        return [type(result) for result in results]

    assert run(main()) == [int, KeyError, asyncio.CancelledError, int]


def test_who_cancels_itself_cancels_who_reads_as_in_gather():
    async def main():
        gate = make_gate()
        with pytest.raises(asyncio.CancelledError):
            await gate.map(Solver(errors={1: asyncio.CancelledError()}), range(4))
        assert empty(gate)

    run(main())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_an_error_of_the_items_is_raised_after_the_results_before_it(is_async, return_exceptions):
    def items():
        yield 0
        yield 1
        raise OSError("the file is gone")

    async def async_items():
        for number in items():
            yield number

    async def main():
        gate = make_gate()
        results = []
        with pytest.raises(OSError, match="the file is gone"):
            await read(
                gate.map(Solver(), async_items() if is_async else items(), return_exceptions=return_exceptions), results
            )
        assert empty(gate)
        return results

    assert run(main()) == [0, 10]


def test_a_function_that_is_not_asynchronous_is_refused_with_what_to_do():
    async def main():
        with pytest.raises(TypeError, match=r"asynchronous functions, and .*lambda.* gave a int: .*to_thread"):
            await make_gate().map(lambda number: number, [1])

    run(main())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"items": 3}, TypeError, "not iterable"),
        ({"items": [], "retries": -1}, ValueError, "0 or more"),
        ({"items": [], "key": str}, ValueError, "give checkpoint= too"),
    ],
)
def test_a_wrong_argument_is_told_at_once(options, error, message):
    with pytest.raises(error, match=message):
        make_gate().map(Solver(), **options)


def test_a_closed_gate_is_told_by_the_batch_and_not_tried_again(caplog):
    async def main():
        gate = make_gate()
        await gate.aclose()
        with pytest.raises(GateClosed):
            await gate.map(Solver(), range(3), retries=5)

    run(main())
    assert "tried again" not in caplog.text


def test_a_batch_that_was_begun_cannot_be_awaited():
    async def main():
        batch = make_gate().map(Solver(), range(3))
        assert await anext(batch) == 0
        with pytest.raises(RuntimeError, match=r"call gate\.map"):
            await batch
        assert [result async for result in batch] == [10, 20]
        with pytest.raises(RuntimeError, match=r"call gate\.map"):
            await batch

    run(main())


# ---------------------------------------------------------------- retries


def test_an_item_that_fails_is_tried_again_as_a_new_agent(caplog):
    async def main():
        gate = make_gate("fixed:1")
        sessions = []

        async def flaky(number):
            sessions.append(gate.current().session_id)
            await asyncio.sleep(1)
            if len(sessions) < 3:
                raise OSError("connection lost")
            return number

        results = await gate.map(flaky, [7], retries=2)
        assert empty(gate)
        return results, sessions

    with caplog.at_level(logging.WARNING, "concur_agents"):
        results, sessions = run(main())
    assert results == [7]
    assert len(set(sessions)) == 3
    assert [record.message for record in caplog.records] == [
        f"item 0 failed and is tried again ({number} of 2): OSError" for number in (1, 2)
    ]


def test_the_last_error_is_raised_when_all_tries_have_failed():
    solve = Solver(errors={0: OSError("connection lost")})

    async def main():
        with pytest.raises(OSError, match="connection lost"):
            await make_gate().map(solve, [0], retries=2)

    run(main())
    assert solve.began == [0, 0, 0]


def test_a_cancellation_is_not_tried_again():
    solve = Solver(errors={0: asyncio.CancelledError()})

    async def main():
        await make_gate().map(solve, [0], retries=2, return_exceptions=True)

    run(main())
    assert solve.began == [0]


# ---------------------------------------------------------------- leaving half-way


async def leave_by_break(gate, solve):
    async for _ in gate.map(solve, range(100)):
        break


async def leave_by_aclose(gate, solve):
    batch = gate.map(solve, range(100))
    await anext(batch)
    await batch.aclose()
    await batch.aclose()


async def leave_by_cancellation(gate, solve):
    task = asyncio.ensure_future(gate.map(solve, range(100)))
    await asyncio.sleep(1.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def leave_by_timeout(gate, solve):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.1):
            await read(gate.map(solve, range(100)), [])


async def leave_by_an_error_of_the_reader(gate, solve):
    with contextlib.suppress(ZeroDivisionError):
        async with contextlib.aclosing(gate.map(solve, range(100))) as results:
            async for _ in results:
                raise ZeroDivisionError


@pytest.mark.parametrize(
    "leave",
    [leave_by_break, leave_by_aclose, leave_by_cancellation, leave_by_timeout, leave_by_an_error_of_the_reader],
    ids=lambda leave: leave.__name__,
)
def test_left_half_way_what_runs_is_cancelled_and_awaited_and_no_place_lost(leave):
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        gate = make_gate("fixed:3")
        solve = Solver(seconds=lambda number: 1 if number else 1.2, errors={1: KeyError("not read")})
        await leave(gate, solve)
        for _ in range(5):
            await asyncio.sleep(0)
        assert empty(gate)
        assert solve.running == 0
        assert len(asyncio.all_tasks()) == 1
        gc.collect(1)

    run(main())
    assert complaints == []


def test_closing_waits_for_those_that_take_their_time_even_if_it_is_cancelled_itself():
    async def main():
        gate = make_gate("fixed:2")
        ended = []

        async def tidy(number):
            try:
                await asyncio.sleep(100)
            finally:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(5)
                await asyncio.sleep(5)
                ended.append(number)

        task = asyncio.ensure_future(gate.map(tidy, range(9)))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert empty(gate)
        return sorted(ended), asyncio.get_running_loop().time()

    assert run(main()) == ([0, 1], 7)


def test_items_that_swallow_their_cancellation_start_nothing_more():
    solve = Solver()

    async def items():
        number = 0
        while True:
            yield number
            number += 1
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    async def main():
        gate = make_gate()
        async with contextlib.aclosing(gate.map(solve, items())) as results:
            await anext(results)
        assert empty(gate)

    run(main())
    assert solve.began == [0]


def test_agents_run_in_the_context_of_the_reader_and_not_of_who_makes_the_items():
    variable = contextvars.ContextVar("variable", default="reader")

    async def main():
        gate = make_gate()

        async def items():
            async with gate.agent("producer"):
                variable.set("producer")
                yield 1

        async def look(_):
            return variable.get(), gate.current().parent

        return await gate.map(look, items())

    assert run(main()) == [("reader", None)]
