"""What an agent holds and reports: footprint, shared prefix, tool waits, what was read again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from gate.gate_helpers import Server, gate_on

from concur_agents import AgentFinished, Budget, ConcurGate
from concur_agents.simulation.virtual_time import run


class Tokens:
    """A controller that allows so many tokens."""

    name = "tokens"
    needs_metrics = False

    def __init__(self, tokens: float, **reserves: float) -> None:
        self.budget = Budget(tokens=tokens, **reserves)

    def decide(self, pool, engine, now):
        return self.budget


async def turn(agent, prompt, output, cached=None, seconds=1.0):
    async with agent.turn() as turn:
        await asyncio.sleep(seconds)
        turn.report(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)


def test_the_footprint_is_prompt_and_output_of_the_last_turn():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent(expected_tokens=500) as agent:
            assert agent.footprint == gate.stats().working_set_tokens == 500
            await turn(agent, 1000, 50)
            assert agent.footprint == gate.stats().working_set_tokens == 1050
            await turn(agent, 1200, 30)
            assert agent.footprint == gate.stats().working_set_tokens == 1230
        assert gate.stats().working_set_tokens == 0
        return gate.stats()

    stats = run(main())
    assert (stats.turns, stats.prompt_tokens, stats.output_tokens) == (2, 2200, 80)


def test_parallel_turns_of_one_agent_add_up_and_the_next_lone_turn_sets_it_right():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent() as agent:
            await turn(agent, 1000, 0)
            await asyncio.gather(turn(agent, 1000, 100), turn(agent, 1100, 100), turn(agent, 1200, 100))
            assert agent.footprint == 1100 + 1200 + 1300
            await turn(agent, 1500, 0)
            assert agent.footprint == gate.stats().working_set_tokens == 1500

    run(main())


def test_a_rolling_fan_out_weighs_what_runs_beside_each_other_not_all_that_ever_ran():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent(expected_tokens=1000) as agent:
            first = asyncio.create_task(turn(agent, 1000, 0, seconds=100))
            await asyncio.sleep(0.1)
            for _ in range(20):
                await turn(agent, 1000, 0)
            assert agent.footprint == 2000
            await first

    run(main())


def test_a_shared_prefix_is_learned_from_the_second_first_turn_on_and_billed_once():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent(kind="coder") as one:
            await turn(one, 1000, 0, cached=0)
            assert gate.stats().working_set_tokens == 1000
            async with gate.agent(kind="coder", nested="new") as two:
                await turn(two, 1000, 0, cached=640)
                assert two.footprint == 1000
                # The parent's place is lent, so only the child is active; its prefix is billed all the same.
                assert gate.stats().working_set_tokens == 1000

    run(main())


def test_who_was_served_first_may_report_last_and_does_not_hide_the_prefix():
    gate = ConcurGate(controller="none")

    async def one(cached, leave):
        async with gate.agent(kind="coder") as agent:
            await turn(agent, 1000, 0, cached=cached)
            await leave.wait()

    async def main():
        leave = asyncio.Event()
        agents = [asyncio.create_task(one(cached, leave)) for cached in (640, 0, 640, 672)]
        await asyncio.sleep(10)
        held = gate.stats().working_set_tokens
        leave.set()
        await asyncio.gather(*agents)
        return held

    assert run(main()) == 640 + 4 * 360


def test_a_prefix_that_was_evicted_is_forgotten_and_learned_again():
    gate = ConcurGate(controller="none")

    async def main():
        sizes = []
        for cached in (0, 640, 640, 0, *[640] * 16):
            async with gate.agent(kind="coder") as one:
                await turn(one, 1000, 0, cached=cached)
                sizes.append(one.place.kind.shared_prefix)
        return sizes

    sizes = run(main())

    assert sizes[:4] == [0, 640, 640, 0]
    assert sizes[-1] == 640


def test_a_prefix_known_beforehand_is_billed_once_from_the_start():
    gate = ConcurGate(controller="none", shared_prefix_tokens={"coder": 600})

    async def main():
        async def agent():
            async with gate.agent(kind="coder") as agent:
                await turn(agent, 1000, 0)
                await asyncio.sleep(5)

        agents = [asyncio.create_task(agent()) for _ in range(3)]
        await asyncio.sleep(2)
        assert gate.stats().working_set_tokens == 600 + 3 * 400
        await asyncio.gather(*agents)
        assert gate.stats().working_set_tokens == 0

    run(main())


def test_what_was_evicted_is_told_from_what_was_never_there(monkeypatch):
    gate = gate_on(Server(), monkeypatch, controller="fixed:1")

    async def main():
        async with gate, gate.agent() as agent:
            await turn(agent, 1000, 64, cached=0)  # an honest miss
            await turn(agent, 1100, 0, cached=1024)  # all back, and some of the output: 992 could be sure
            assert agent.recomputed_tokens == 0
            await turn(agent, 1200, 0, cached=256)  # 1100 were there, 1088 in whole blocks
            assert agent.recomputed_tokens == 1088 - 256
            await turn(agent, 300, 0, cached=0)  # a rewritten history is a reset, not an eviction
            assert agent.recomputed_tokens == 1088 - 256
        return gate.stats().recompute_ratio

    assert 0 < run(main()) < 1


@pytest.mark.parametrize("cached", [None, 0, 960], ids=["untold", "none", "nearly all"])
def test_what_should_have_been_in_the_cache_is_known_without_being_told_what_was(cached, monkeypatch):
    gate = gate_on(Server(), monkeypatch, controller="fixed:1")

    async def main():
        async with gate, gate.agent() as agent:
            await turn(agent, 1000, 64, cached=cached)
            assert gate.totals.kept_tokens == 0  # nothing was there before
            await turn(agent, 1100, 0, cached=cached)
            assert gate.totals.kept_tokens == 992  # 1000 in whole blocks of 32
            await turn(agent, 300, 0, cached=cached)  # a rewritten history
            assert gate.totals.kept_tokens == 992
        return gate.totals.reusable_tokens

    assert run(main()) == (0 if cached is None else 992)


def test_what_an_agent_gave_up_for_a_pause_is_not_expected_in_the_cache():
    gate = ConcurGate(controller=Tokens(3000))
    expected = []

    async def small():
        async with gate.agent("small", expected_tokens=800) as agent:
            for prompt in (800, 900, 1000):  # paused at the second
                await turn(agent, prompt, 0)
                expected.append(gate.totals.kept_tokens)

    async def big():
        async with gate.agent("big", expected_tokens=2000) as agent:
            await turn(agent, 2500, 0)
            await asyncio.sleep(10)

    async def main():
        await asyncio.gather(big(), small())

    run(main())
    assert gate.stats().pauses == 1
    assert expected == [0, 0, 900]


def test_each_refused_attempt_is_shown_to_the_controller():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent() as agent, agent.turn() as turn:
            turn.note_refusal()
            turn.note_refusal()
            assert gate.admission.view().refusals == 2

    run(main())


def test_tool_waits_are_measured_without_the_wait_for_a_place():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent() as agent:
            await turn(agent, 10, 1)
            await asyncio.sleep(7)
            await turn(agent, 10, 1)
            return agent.tool_wait_s

    assert run(main()) == 7


def test_a_small_agent_is_paused_at_its_next_turn_and_goes_on_when_there_is_room():
    gate = ConcurGate(controller=Tokens(3000))
    paused = []

    async def small():
        async with gate.agent("small", expected_tokens=800) as agent:
            await turn(agent, 800, 0)
            await asyncio.sleep(1)
            waiting = asyncio.create_task(turn(agent, 900, 0))
            await asyncio.sleep(0)
            paused.append((agent.state, [(w.name, w.state) for w in gate.waiting()]))
            await waiting
            return asyncio.get_running_loop().time()

    async def big():
        async with gate.agent("big", expected_tokens=2000) as agent:
            await turn(agent, 2500, 0)
            await asyncio.sleep(10)

    async def main():
        return (await asyncio.gather(big(), small()))[1]

    assert run(main()) == 12
    assert paused == [("paused", [("small", "paused")])]
    assert gate.stats().pauses == 1


def test_an_agent_inside_an_agent_shares_its_place_and_is_charged_to_it():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        async with gate.agent("parent") as parent:
            await turn(parent, 1000, 0)

            async def child(prompt):
                async with gate.agent() as agent:
                    assert agent.parent is parent
                    await turn(agent, prompt, 0)
                    assert gate.stats().active == 1
                    await asyncio.sleep(1)

            children = [asyncio.create_task(child(prompt)) for prompt in (100, 200)]
            await asyncio.sleep(1.5)
            assert gate.stats().working_set_tokens == 1300
            await asyncio.gather(*children)
            assert gate.stats().working_set_tokens == 1000
            assert gate.current() is parent

    run(main())


def test_a_budget_of_one_cannot_deadlock_on_agents_that_start_agents():
    gate = ConcurGate(controller="fixed:1")

    async def family(depth):
        async with gate.agent(nested="new") as agent:
            await turn(agent, 10, 1)
            if depth:
                await asyncio.gather(*(family(depth - 1) for _ in range(3)))
            assert gate.stats().active <= 1
            await turn(agent, 20, 1)

    run(family(3))
    assert gate.stats().finished == 1 + 3 + 9 + 27


def test_a_background_task_that_outlives_its_agent_cannot_use_its_place(caplog):
    gate = ConcurGate(controller="fixed:1")
    release = []

    async def main():
        async def straggler(agent):
            await asyncio.sleep(5)
            assert gate.current() is None
            with pytest.raises(AgentFinished, match="is over and its place given back"):
                await agent.begin_turn()
            async with gate.turn() as own:  # a call outside any agent: an agent of one turn
                assert own.agent is not agent
                release.append(gate.stats().active)

        async with gate.agent() as agent:
            background = asyncio.create_task(straggler(agent))
        await background

    with caplog.at_level(logging.WARNING, "concur_agents"):
        run(main())
    assert release == [1]
    assert gate.stats().active == 0


def test_an_agent_inside_an_agent_that_is_over_has_no_more_turns():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        async with gate.agent():
            async with gate.agent() as child:
                pass
            with pytest.raises(AgentFinished):
                await child.begin_turn()

    run(main())


def test_a_call_outside_any_agent_is_an_agent_of_one_turn_said_once(caplog):
    gate = ConcurGate(controller="fixed:1")

    async def main():
        async def call():
            turn = await gate.begin_turn()
            await asyncio.sleep(1)
            turn.report(prompt_tokens=10, completion_tokens=1)
            turn.end()
            turn.end()

        await asyncio.gather(*(call() for _ in range(3)))
        return asyncio.get_running_loop().time()

    with caplog.at_level(logging.WARNING, "concur_agents"):
        assert run(main()) == 3
    assert caplog.text.count("outside any agent") == 1
    assert gate.stats().finished == 3


def test_a_turn_around_other_turns_is_only_a_pause_point():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        async with gate.agent():
            async with gate.turn():
                for _ in range(2):
                    async with gate.turn() as inner:
                        inner.report(prompt_tokens=10, completion_tokens=1)
            assert gate.stats().turns == 2
            assert gate.stats().running == 0
        async with gate.turn() as outer, gate.turn() as inner:
            assert inner.agent is outer.agent
        assert gate.stats().active == 0

    run(main())


def test_two_gates_do_not_see_each_others_agents():
    one, two = ConcurGate(controller="fixed:1"), ConcurGate(controller="fixed:1")

    async def main():
        async with one.agent("a") as a:
            assert two.current() is None
            async with two.agent("b") as b:
                assert (one.current(), two.current()) == (a, b)
            assert two.current() is None

    run(main())


def test_a_turn_open_when_its_agent_ends_is_over_with_it():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        async with gate.agent() as agent:
            dangling = await agent.begin_turn()
        assert gate.stats().running == gate.stats().active == 0
        dangling.report(prompt_tokens=10, completion_tokens=1)
        dangling.end()
        assert gate.stats().running == gate.stats().active == 0
        assert gate.stats().working_set_tokens == 0

    run(main())


def test_negative_token_counts_are_refused():
    async def main():
        async with ConcurGate(controller="none").agent() as agent, agent.turn() as turn:
            with pytest.raises(ValueError, match="cannot be negative"):
                turn.report(prompt_tokens=-1, completion_tokens=0)

    run(main())


def test_an_agent_context_is_for_one_run():
    async def main():
        context = ConcurGate(controller="none").agent()
        async with context:
            pass
        with pytest.raises(RuntimeError, match=r"call gate\.agent\(\) anew"):
            async with context:
                pass

    run(main())


@pytest.mark.parametrize("step", range(1, 30))
def test_cancelled_at_any_step_an_agent_leaves_nothing_behind(step):
    """Agents that hold, wait, run turns and a child; one of them is cancelled after so many steps."""
    gate = ConcurGate(controller=Tokens(1000))

    async def agent(size):
        async with gate.agent(expected_tokens=size) as agent:
            await turn(agent, size, 0)
            async with gate.agent(nested="new", expected_tokens=100) as child:
                await turn(child, 100, 0)
            await turn(agent, size, 0)

    async def main():
        others = [asyncio.create_task(agent(700)) for _ in range(2)]
        victim = asyncio.create_task(agent(400))
        for _ in range(step):
            await asyncio.sleep(0.25)
        victim.cancel()
        await asyncio.gather(victim, *others, return_exceptions=True)
        return gate.stats(), gate.admission.live

    stats, live = run(main())
    assert (stats.active, stats.running, stats.paused, stats.queued, live) == (0, 0, 0, 0, 0)
    assert stats.working_set_tokens == 0


def test_a_turn_that_tells_its_prompt_beforehand_weighs_it_while_it_is_in_flight():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent() as agent, agent.turn() as turn:
            turn.expect(1000)
            assert agent.footprint == gate.stats().working_set_tokens == 1000
            turn.expect(900)  # the larger of two guesses, until the server has counted
            assert agent.footprint == 1000
            turn.report(prompt_tokens=950, completion_tokens=10)
            turn.end()
            assert agent.footprint == gate.stats().working_set_tokens == 960
            turn.expect(5000)
            assert agent.footprint == 960

    run(main())


def test_what_the_first_agents_expect_sizes_the_others_of_their_kind_until_one_was_counted():
    gate = ConcurGate(controller="none")

    async def first():
        async with gate.agent(kind="coder") as agent, agent.turn() as turn:
            turn.expect(1200)
            await asyncio.sleep(2)
            turn.report(prompt_tokens=1000, completion_tokens=0)

    async def size_of_another(after_s):
        await asyncio.sleep(after_s)
        async with gate.agent(kind="coder") as other:
            return other.footprint

    async def main():
        return (await asyncio.gather(first(), size_of_another(1), size_of_another(3)))[1:]

    assert run(main()) == [1200, 1000]


def test_only_the_first_turn_tells_the_first_prompt():
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent() as first:
            async with first.turn() as turn:
                turn.expect(500)
            async with first.turn() as turn:
                turn.expect(9000)
        async with gate.agent() as second:
            return second.footprint

    assert run(main()) == 500


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("inf")])
def test_an_expected_prompt_is_a_number_of_tokens(tokens):
    gate = ConcurGate(controller="none")

    async def main():
        async with gate.agent() as agent, agent.turn() as turn:
            turn.expect(tokens)

    with pytest.raises(ValueError, match="0 or more"):
        run(main())
