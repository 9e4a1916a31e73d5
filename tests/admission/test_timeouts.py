"""A wait for a place may be bounded; who gives up has taken nothing and left nothing."""

from __future__ import annotations

import asyncio

import pytest
from admission.lives import watch, watched_gate

from concur_agents import AdmissionTimeout
from concur_agents.simulation.virtual_time import run


async def holds(gate, seconds):
    async with gate.agent("here"):
        await asyncio.sleep(seconds)


def test_who_waited_longer_than_its_timeout_is_told_what_to_do():
    gate = watched_gate(agents=1)

    async def main():
        here = asyncio.create_task(holds(gate, 10))
        await asyncio.sleep(0)
        with pytest.raises(AdmissionTimeout, match=r"'late' waited 3.0 s .* timeout is 3 s: gate.waiting\(\) tells"):
            async with gate.agent("late", timeout=3):
                raise AssertionError
        assert gate.waiting() == []
        await here
        watch(gate).check_empty()

    run(main())


def test_a_timeout_bounds_the_wait_and_not_the_agent():
    gate = watched_gate(agents=1)

    async def main():
        async with gate.agent(timeout=1):
            await asyncio.sleep(100)

    run(main())


def test_a_timeout_of_nothing_tries_once():
    gate = watched_gate(agents=1)

    async def main():
        async with gate.agent("first", timeout=0):
            with pytest.raises(AdmissionTimeout):
                await asyncio.create_task(nothing(gate))
        watch(gate).check_empty()

    async def nothing(gate):
        async with gate.agent("second", nested="new", timeout=0):
            pass

    async def alone():
        here = asyncio.create_task(holds(gate, 10))
        await asyncio.sleep(0)
        with pytest.raises(AdmissionTimeout):
            await nothing(gate)
        await here

    run(alone())


@pytest.mark.parametrize("leaves_at", [2.999, 3.0, 3.001])
def test_a_place_that_comes_free_as_the_timeout_strikes_is_not_lost(leaves_at):
    gate = watched_gate(agents=1)

    async def late():
        async with gate.agent("late", timeout=3):
            return "in"

    async def main():
        here = asyncio.create_task(holds(gate, leaves_at))
        await asyncio.sleep(0)
        (end,) = await asyncio.gather(late(), return_exceptions=True)
        assert end == "in" if leaves_at < 3 else isinstance(end, AdmissionTimeout) or end == "in"
        await here
        async with gate.agent("next", timeout=1):
            watch(gate).check()
        watch(gate).check_empty()

    run(main())


def test_one_that_gives_up_lets_those_behind_it_move_up():
    gate = watched_gate(tokens=100)

    async def main():
        async with gate.agent("here", expected_tokens=50):
            await asyncio.sleep(10)

    async def impatient():
        with pytest.raises(AdmissionTimeout):
            async with gate.agent("big", expected_tokens=1000, timeout=5):
                pass

    async def behind(at):
        await asyncio.sleep(at)
        async with gate.agent("small", expected_tokens=50):
            return asyncio.get_running_loop().time()

    async def all_of_them():
        results = await asyncio.gather(main(), impatient(), behind(1), behind(1), return_exceptions=False)
        watch(gate).check_empty()
        return results[2:]

    assert run(all_of_them()) == [1, 1]


def test_a_timeout_of_the_users_own_is_theirs():
    gate = watched_gate(agents=1)

    async def main():
        here = asyncio.create_task(holds(gate, 10))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError) as error:
            async with asyncio.timeout(2), gate.agent("late", timeout=5):
                pass
        assert not isinstance(error.value, AdmissionTimeout)
        await here

    run(main())
