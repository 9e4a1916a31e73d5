"""Other schedules than asyncio's own, cancelled at any await: `detangle` searches, `Watched.check` judges each step."""

from __future__ import annotations

import asyncio
import contextlib

import detangle
import pytest
from admission.lives import UPS_AND_DOWNS, full_life, govern, turn, watch, watched_gate

from concur_agents import Budget, GateClosed

SEED = 20251122
"""The same search everywhere; `pytest --detangle-seed=… --detangle-runs=…` searches elsewhere and longer."""


async def tried(life, *args) -> None:
    """Live, or be cancelled at whatever await the search chooses."""
    with contextlib.suppress(TimeoutError):
        await detangle.maybe_timeout(life(*args), points=20)


def watched(**budget):
    """A watched gate whose every step is checked."""
    gate = watched_gate(**budget)
    detangle.invariant(watch(gate).check)
    return gate


@detangle.test(runs=150, seed=SEED, database=False)
async def test_agents_that_only_come_and_go():
    gate = watched(agents=2)

    async def life(name):
        async with gate.agent(name):
            await asyncio.sleep(detangle.choice([0, 1]))

    await asyncio.gather(*(tried(life, name) for name in "abcdef"), govern(gate, Budget(agents=1), Budget(agents=3)))
    watch(gate).check_empty()


@detangle.test(runs=150, seed=SEED, database=False)
async def test_agents_that_are_paused_and_resumed():
    gate = watched(tokens=500)

    async def life(name, size):
        async with gate.agent(name, expected_tokens=size) as agent:
            for more in range(3):
                await turn(agent, size + 100 * more)

    lives = [tried(life, name, size) for name, size in (("a", 100), ("b", 200), ("c", 300), ("d", 150))]
    await asyncio.gather(*lives, govern(gate, Budget(tokens=200), Budget(agents=2), Budget(tokens=900), seconds=1))
    watch(gate).check_empty()


@detangle.test(runs=150, seed=SEED, database=False)
async def test_parallel_turns_of_agents_under_a_budget_that_shrinks():
    gate = watched(tokens=1000)

    async def life(name, size):
        async with gate.agent(name, expected_tokens=size) as agent, agent.turn():
            pass
        async with gate.agent(name, expected_tokens=size) as agent:
            stream = await agent.begin_turn()
            try:
                await asyncio.gather(*(tried(turn, agent, size) for _ in range(3)))
            finally:
                stream.end()

    lives = [tried(life, name, size) for name, size in (("a", 100), ("b", 200), ("c", 300))]
    await asyncio.gather(*lives, govern(gate, Budget(tokens=250), Budget(agents=1), Budget(), seconds=0.5))
    watch(gate).check_empty()


@detangle.test(runs=150, seed=SEED, database=False)
async def test_a_family_three_levels_deep_on_a_single_place():
    gate = watched(agents=1)

    async def family(depth):
        async with gate.agent(nested="new") as agent:
            stream = await agent.begin_turn()
            try:
                if depth:
                    await asyncio.gather(*(tried(family, depth - 1) for _ in range(2)))
            finally:
                stream.end()
            await turn(agent, 10)

    await asyncio.gather(tried(family, 2), tried(family, 1))
    watch(gate).check_empty()


@detangle.test(runs=200, seed=SEED, database=False)
async def test_full_lives_under_ups_and_downs():
    gate = watched(tokens=500)

    lives = [tried(full_life, gate, name, size) for name, size in (("a", 200), ("b", 300), ("c", 150))]
    await asyncio.gather(*lives, govern(gate, *UPS_AND_DOWNS))
    watch(gate).check_empty()


@detangle.test(runs=150, seed=SEED, database=False)
async def test_closing_at_any_moment():
    gate = watched(agents=2)

    async def life(name):
        try:
            async with gate.agent(name) as agent:
                await turn(agent, 100)
                async with gate.agent(nested="new") as child:
                    await turn(child, 100)
                await turn(agent, 200)
        except GateClosed:
            return

    async def close():
        await asyncio.sleep(detangle.choice([0, 0.5, 1, 2, 3]))
        await gate.aclose()

    await asyncio.gather(*(tried(life, name) for name in "abcd"), close())
    watch(gate).check_empty()


@pytest.mark.parametrize(("agents", "places"), [(2, 1), (3, 1), (3, 2)])
def test_every_schedule_of_a_few_agents_within_three_deviations_and_cancellations(agents, places):
    """Not a sample: all of them."""

    async def main():
        gate = watched(agents=places)

        async def life():
            async with gate.agent() as agent, agent.turn():
                await asyncio.sleep(0)

        await asyncio.gather(*(tried(life) for _ in range(agents)))
        watch(gate).check_empty()

    stats = detangle.explore(main, strategy=detangle.DFS(max_delays=3), runs=5000, database=False)
    assert stats.exhausted
