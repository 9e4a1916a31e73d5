"""Other schedules than asyncio's own, cancelled at any await: nobody loses a place, and no task is left."""

from __future__ import annotations

import asyncio
import contextlib

import detangle
import pytest
from admission.lives import Suspensions, govern, watch, watched_gate

from concur_agents import Budget

SEED = 20251122
UPS_AND_DOWNS = (Budget(agents=1), Budget(agents=3), Budget(agents=2))


class Failed(Exception):
    pass


def watched(**budget):
    gate = watched_gate(**budget)
    detangle.invariant(watch(gate).check)
    return gate


async def tried(life):
    with contextlib.suppress(TimeoutError):
        await detangle.maybe_timeout(life, points=20)


async def solve(number):
    await asyncio.sleep(detangle.choice([0, 1, 2]))
    if detangle.choice([False, False, False, True]):
        raise Failed
    return number


async def left_in_the_end(gate):
    """Only who calls this is left, and all places are free."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    watch(gate).check_empty()


async def items():
    for number in range(5):
        await asyncio.sleep(detangle.choice([0, 1]))
        yield number


@pytest.mark.parametrize("source", [lambda: range(5), items], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_map_cancelled_anywhere_leaves_nothing(source, return_exceptions):
    async def main():
        gate = watched(agents=2)

        async def read():
            results = []
            with contextlib.suppress(Failed):
                async with contextlib.aclosing(
                    gate.map(solve, source(), retries=1, return_exceptions=return_exceptions)
                ) as batch:
                    async for result in batch:
                        results.append(result)
                        await asyncio.sleep(detangle.choice([0, 1]))
                        if detangle.choice([False, False, True]):
                            break
            assert all(result == n or isinstance(result, Failed) for n, result in enumerate(results))

        await asyncio.gather(tried(read()), tried(read()), govern(gate, *UPS_AND_DOWNS))
        await left_in_the_end(gate)

    detangle.explore(main, runs=100, seed=SEED, database=False)


@detangle.test(runs=150, seed=SEED, database=False)
async def test_an_awaited_map_cancelled_anywhere_leaves_nothing():
    gate = watched(agents=2)

    async def read():
        with contextlib.suppress(Failed):
            assert await gate.map(solve, range(4)) == [0, 1, 2, 3]

    await asyncio.gather(tried(read()), tried(read()), govern(gate, *UPS_AND_DOWNS))
    await left_in_the_end(gate)


@detangle.test(runs=150, seed=SEED, database=False)
async def test_a_gather_cancelled_anywhere_leaves_nothing():
    gate = watched(agents=2)

    async def read():
        with contextlib.suppress(Failed):
            assert await gate.gather(*(solve(n) for n in range(4))) == [0, 1, 2, 3]

    await asyncio.gather(tried(read()), govern(gate, *UPS_AND_DOWNS))
    await asyncio.sleep(20)  # after a failure the others go on, as in asyncio
    await left_in_the_end(gate)


@detangle.test(runs=150, seed=SEED, database=False)
async def test_a_group_cancelled_anywhere_leaves_nothing():
    gate = watched(agents=2)

    async def group():
        with contextlib.suppress(ExceptionGroup):
            async with gate.agent(), gate.TaskGroup() as group:
                for number in range(4):
                    group.create_task(solve(number), nested=detangle.choice(["new", "inherit"]))
                    await asyncio.sleep(0)

    await asyncio.gather(tried(group()), tried(group()), govern(gate, *UPS_AND_DOWNS))
    await left_in_the_end(gate)


@detangle.test(runs=100, seed=SEED, database=False)
async def test_as_completed_left_anywhere_loses_no_place():
    gate = watched(agents=2)

    async def some(number):
        await asyncio.sleep(detangle.choice([0, 1, 2]))
        return number

    async def read():
        async for task in gate.as_completed([some(n) for n in range(4)]):
            await task
            if detangle.choice([False, False, True]):
                break

    await asyncio.gather(tried(read()), govern(gate, *UPS_AND_DOWNS))
    await asyncio.sleep(20)  # the others go on, as in asyncio
    await left_in_the_end(gate)


async def even(number):
    await asyncio.sleep(1 + number % 2)
    return number


def one_map(site):
    async def main():
        gate = watched(agents=2)

        async def read():
            async with contextlib.aclosing(gate.map(lambda n: site(even(n), f"item {n}"), range(4))) as batch:
                return [result async for result in batch]

        end = (await asyncio.gather(site(read(), "reader"), return_exceptions=True))[0]
        await left_in_the_end(gate)
        return end

    return detangle.run(main)


@pytest.mark.parametrize("woken", [False, True], ids=["as it begins to wait", "as it is woken"])
@pytest.mark.parametrize("victim", ["reader", "item 0", "item 1", "item 3"])
def test_cancelled_at_each_await_a_map_gives_back_all_places(victim, woken):
    suspensions = Suspensions()
    assert one_map(suspensions) == [0, 1, 2, 3]
    assert suspensions.counts[victim] >= 1
    for number in range(1, suspensions.counts[victim] + 1):
        end = one_map(Suspensions(victim, number, woken=woken))
        assert isinstance(end, asyncio.CancelledError) or end == [0, 1, 2, 3]
