"""`gate.gather` is `asyncio.gather`, but each awaitable starts when it is admitted."""

from __future__ import annotations

import asyncio

import pytest

from concur_agents import ConcurGate
from concur_agents.simulation.virtual_time import run


async def solve(result, seconds: float = 1.0):
    await asyncio.sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


def test_results_come_in_the_order_of_the_arguments():
    async def main():
        return await ConcurGate(controller="fixed:3").gather(*(solve(i, 5 - i) for i in range(5)))

    assert run(main()) == [0, 1, 2, 3, 4]


def test_the_first_exception_is_raised_and_the_others_go_on():
    async def main():
        gate = ConcurGate(controller="fixed:2")
        done = []

        async def note(i):
            done.append(await solve(i))

        with pytest.raises(KeyError):
            await gate.gather(solve(KeyError("x")), note(1), note(2))
        await asyncio.sleep(5)
        return done, gate.stats().active

    assert run(main()) == ([1, 2], 0)


def test_exceptions_stand_among_the_results_on_demand():
    async def main():
        outcome = await ConcurGate(controller="fixed:1").gather(solve(1), solve(KeyError()), return_exceptions=True)
        return [type(value) for value in outcome]

    assert run(main()) == [int, KeyError]


def test_cancelling_it_cancels_all_and_closes_what_never_started():
    async def main():
        gate = ConcurGate(controller="fixed:1")
        pending = gate.gather(*(solve(i) for i in range(4)))
        await asyncio.sleep(0.5)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert gate.stats().active == gate.stats().queued == 0
        unstarted = gate.gather(*(solve(i) for i in range(4)))
        unstarted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unstarted

    run(main())


def test_the_same_coroutine_twice_runs_once():
    async def main():
        coroutine = solve(7)
        return await ConcurGate(controller="fixed:1").gather(coroutine, coroutine)

    assert run(main()) == [7, 7]


def test_nothing_to_gather_gives_an_empty_list():
    async def main():
        return await ConcurGate(controller="fixed:1").gather()

    assert run(main()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: solve, r"the function solve: call it, solve\(…\)"),
        (lambda: asyncio.get_running_loop().create_task(solve(1)), r"a task, which is running already.*solve\(t\)"),
        (lambda: asyncio.get_running_loop().create_future(), "a future, which is running already"),
        (lambda: 42, "takes coroutines, not int"),
    ],
)
def test_what_cannot_be_held_back_is_refused_and_the_rest_closed(wrong, message):
    async def main():
        given = wrong()
        with pytest.raises(TypeError, match=message):
            ConcurGate(controller="fixed:1").gather(solve(1), given, solve(2))
        if isinstance(given, asyncio.Task):
            await given

    run(main())
