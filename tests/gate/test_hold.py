"""`gate.hold()`: no turn in flight inside it, none begins, and nobody loses a place over it."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from concur_agents import ConcurGate, GateClosed
from concur_agents.simulation.virtual_time import run


async def life(gate, log, *, turns=3, turn_s=1.0, tool_s=0.5):
    async with gate.agent():
        for _ in range(turns):
            async with gate.turn():
                log.append(("begin", asyncio.get_running_loop().time()))
                await asyncio.sleep(turn_s)
                log.append(("end", asyncio.get_running_loop().time()))
            await asyncio.sleep(tool_s)


def test_it_waits_for_the_turns_in_flight_and_lets_none_begin():
    async def scenario():
        gate, log = ConcurGate(controller="fixed:3"), []
        agents = [asyncio.create_task(life(gate, log)) for _ in range(5)]
        await asyncio.sleep(0.4)
        async with gate.hold():
            entered = asyncio.get_running_loop().time()
            assert gate.stats().running == 0
            assert gate.stats().active == 3
            await asyncio.sleep(10)
            assert gate.stats().running == 0
            left = asyncio.get_running_loop().time()
        await asyncio.gather(*agents)
        assert entered == pytest.approx(1.0)
        assert not [when for what, when in log if what == "begin" and entered <= when < left]
        assert len(log) == 5 * 3 * 2
        assert gate.admission.live == 0

    run(scenario())


def test_two_holders_hold_until_both_are_gone():
    async def scenario():
        gate, log = ConcurGate(controller="none"), []
        loop = asyncio.get_running_loop()

        async def hold(start, length):
            await asyncio.sleep(start)
            async with gate.hold():
                await asyncio.sleep(length)

        await asyncio.gather(life(gate, log, turns=2), hold(0.5, 5), hold(0.5, 9))
        begun = [when for what, when in log if what == "begin"]
        assert begun == pytest.approx([0.0, 10.0])
        assert loop.time() >= 10

    run(scenario())


def test_one_that_is_cancelled_while_it_waits_for_a_turn_holds_nothing():
    async def scenario():
        gate, log = ConcurGate(controller="none"), []
        agent = asyncio.create_task(life(gate, log))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), gate.hold():
                pytest.fail("a turn was in flight")
        await agent
        assert [when for what, when in log if what == "begin"] == pytest.approx([0.0, 1.5, 3.0])

    run(scenario())


def test_an_agent_that_ends_in_the_middle_of_its_turn_is_not_waited_for():
    async def scenario():
        gate = ConcurGate(controller="none")
        async with gate.agent() as agent:
            await agent.begin_turn()
        async with asyncio.timeout(1), gate.hold():
            pass

    run(scenario())


def test_an_agent_cancelled_while_held_gives_its_place_back():
    async def scenario():
        gate, log = ConcurGate(controller="fixed:1"), []
        first = asyncio.create_task(life(gate, log))
        second = asyncio.create_task(life(gate, log))
        await asyncio.sleep(0.1)
        async with gate.hold():
            await asyncio.sleep(3)
            first.cancel()
            await asyncio.sleep(1)
            assert gate.stats().active == 1  # the second one, which waits to begin its first turn
            assert gate.stats().running == 0
        await second
        assert gate.admission.live == 0

    run(scenario())


def test_a_paused_agent_that_is_resumed_while_held_waits_on():
    async def scenario():
        gate, log = ConcurGate(controller="fixed:2"), []
        loop = asyncio.get_running_loop()
        agents = [asyncio.create_task(life(gate, log)) for _ in range(2)]
        await asyncio.sleep(0.1)
        gate.admission.resize(type(gate.admission.budget)(agents=1))
        await asyncio.sleep(2)  # one of them is paused by now
        assert gate.stats().paused == 1
        async with gate.hold():
            gate.admission.resize(type(gate.admission.budget)(agents=2))
            held_at = loop.time()
            await asyncio.sleep(4)
            assert gate.stats().running == 0
        await asyncio.gather(*agents)
        assert not [when for what, when in log if what == "begin" and held_at <= when < held_at + 4]

    run(scenario())


def test_it_is_refused_inside_a_turn_for_whose_end_it_would_wait():
    async def scenario():
        gate = ConcurGate(controller="none")
        async with gate.agent(), gate.turn():
            with pytest.raises(RuntimeError, match="hold between turns"):
                async with gate.hold():
                    pass

    run(scenario())


def test_a_gate_that_closes_wakes_who_is_paused_while_held():
    async def scenario():
        gate = ConcurGate(controller="fixed:1")

        async def waits():
            async with gate.agent():
                pytest.fail("there was no place")

        async with gate.agent():
            task = asyncio.create_task(waits(), context=contextvars.Context())
            async with gate.hold():
                await asyncio.sleep(1)
                await gate.aclose()
                with pytest.raises(GateClosed):
                    await task

    run(scenario())


def test_it_works_from_one_event_loop_after_another():
    gate = ConcurGate(controller="none")
    for _ in range(2):
        log = []

        async def scenario(log=log):
            task = asyncio.create_task(life(gate, log))
            await asyncio.sleep(0.1)
            async with gate.hold():
                await asyncio.sleep(1)
            await task

        run(scenario())
        assert len(log) == 6


def test_a_turn_that_a_resumed_agent_gives_back_is_not_waited_for_for_ever():
    """Its place comes free in the step in which the last turn ends: the holder wakes, sees it running, and waits on."""

    async def scenario():
        gate = ConcurGate(controller="fixed:2")
        end_first, begin_second = asyncio.Event(), asyncio.Event()

        async def big():
            async with gate.agent(expected_tokens=1000), gate.turn():
                await end_first.wait()

        async def small():
            async with gate.agent():
                async with gate.turn():
                    pass
                await begin_second.wait()
                async with gate.turn():
                    pass

        async def hold():
            async with gate.hold():
                assert gate.stats().running == 0
                assert gate.stats().held

        tasks = [asyncio.create_task(big()), asyncio.create_task(small())]
        await asyncio.sleep(1)
        gate.admission.resize(type(gate.admission.budget)(agents=1))
        begin_second.set()
        await asyncio.sleep(1)
        assert gate.stats().paused == 1
        tasks.append(asyncio.create_task(hold()))
        await asyncio.sleep(1)
        end_first.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
        assert not gate.stats().held

    run(scenario())
