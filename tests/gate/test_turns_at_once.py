"""`Agent.begin_turn_at_once`: the turn that `begin_turn` would begin, where nothing is waited for; else nothing."""

from __future__ import annotations

import asyncio

import pytest

from concur_agents import AgentFinished, Budget, ConcurGate, GateClosed, Listener
from concur_agents.simulation.virtual_time import run


class Ear(Listener):
    """Hears of turns, and how long each has waited."""

    def __init__(self):
        self.heard = []

    def turn_began(self, turn, waited_s):
        self.heard.append((turn, waited_s))

    def turn_ended(self, turn):
        self.heard.append((turn, None))


async def begun(agent, *, at_once):
    return agent.begin_turn_at_once() if at_once else await agent.begin_turn()


def lived(*, at_once):
    """All that one agent of two turns, with a tool between them, leaves behind."""
    gate, ear = ConcurGate(controller="fixed:2"), Ear()
    gate.add_listener(ear)

    async def main():
        async with gate.agent() as agent:
            for prompt, output, cached in ((1000, 50, 0), (1200, 30, 1024)):
                turn = await begun(agent, at_once=at_once)
                assert gate.stats().running == 1
                await asyncio.sleep(2)
                turn.report(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)
                turn.end()
                await asyncio.sleep(3)
            left = agent.turns, agent.tool_wait_s, agent.footprint, agent.reusable_tokens, agent.recomputed_tokens
        return left, gate.stats(), [waited_s for _, waited_s in ear.heard]

    return run(main())


def test_it_is_the_turn_that_begin_turn_begins():
    assert lived(at_once=True) == lived(at_once=False)


def test_it_makes_the_turn_around_it_a_mere_pause_point():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        async with gate.agent() as agent:
            async with agent.turn() as outer:
                inner = agent.begin_turn_at_once()
                assert outer.dissolved
                assert gate.stats().running == 1
                inner.end()
            return agent.turns

    assert run(main()) == 1


async def entered(gate, tokens):
    """An agent that is in no other one; it is over when it is finished."""
    return await asyncio.create_task(gate.agent(expected_tokens=tokens).__aenter__())


def test_who_has_to_pause_begins_none_and_keeps_its_place_until_it_waits_for_another():
    async def main():
        gate = ConcurGate(controller="fixed:2")
        big, small = await entered(gate, 2000), await entered(gate, 10)
        for agent in (big, small):
            agent.begin_turn_at_once().end()
        gate.admission.resize(Budget(agents=1))
        before = gate.stats()
        assert small.begin_turn_at_once() is None
        assert (gate.stats(), small.state) == (before, "active")
        waiting = asyncio.create_task(small.begin_turn())
        await asyncio.sleep(0)
        assert small.state == "paused"
        assert small.begin_turn_at_once() is None
        gate.admission.resize(Budget(agents=2))
        small.begin_turn_at_once().end()
        (await waiting).end()
        big.finish()
        small.finish()
        return gate.stats()

    stats = run(main())
    assert (stats.active, stats.running, stats.turns, stats.pauses) == (0, 0, 4, 1)


def test_it_does_not_pass_a_turn_of_its_agent_that_waits():
    async def main():
        gate = ConcurGate(controller="fixed:2")
        big, small = await entered(gate, 2000), await entered(gate, 10)
        big.begin_turn_at_once().end()
        first = small.begin_turn_at_once()
        gate.admission.resize(Budget(agents=1))
        waiting = asyncio.create_task(small.begin_turn())
        await asyncio.sleep(0)
        assert [place.state for place in gate.waiting()] == ["held"]
        assert small.begin_turn_at_once() is None
        big.finish()
        (await waiting).end()
        first.end()
        small.finish()
        return gate.stats()

    stats = run(main())
    assert (stats.active, stats.running, stats.turns) == (0, 0, 3)


def test_it_begins_none_while_the_gate_is_held():
    async def main():
        gate = ConcurGate(controller="none")
        agent = await entered(gate, 10)
        async with gate.hold():
            assert agent.begin_turn_at_once() is None
            assert gate.stats().running == 0
        agent.begin_turn_at_once().end()

    run(main())


def test_it_begins_none_where_turns_are_paced():
    async def main():
        gate = ConcurGate(controller="none", turns_per_second=1000)
        agent = await entered(gate, 10)
        assert agent.begin_turn_at_once() is None
        assert gate.stats().running == 0

    asyncio.run(main())


def test_it_leaves_refusals_to_begin_turn():
    async def main():
        gate = ConcurGate(controller="fixed:1")
        over = await entered(gate, 10)
        over.finish()
        assert over.begin_turn_at_once() is None
        with pytest.raises(AgentFinished):
            await over.begin_turn()
        async with gate.agent() as lent, gate.agent(nested="new"):
            await gate.aclose()
            assert lent.begin_turn_at_once() is None
            with pytest.raises(GateClosed):
                await lent.begin_turn()
        return gate.admission.live

    assert run(main()) == 0
