"""An agent that takes a place of its own inside another one: the parent lends its place, and wins it back."""

from __future__ import annotations

import asyncio

import pytest
from admission.lives import turn, watch, watched_gate
from admission.stage import Stage, ended

from concur_agents.simulation.virtual_time import run


async def test_a_parent_lends_its_place_at_once_and_has_it_back_when_the_child_is_over():
    stage = Stage(agents=1)
    parent = await stage.turning("parent", tokens=500)
    stage.end(parent)

    child = await stage.enter("child", tokens=100, inside=parent)
    assert stage.states(parent, child) == ["lent", "active"]
    assert stage.admission.working_set == 100
    stage.finish(child)

    assert stage.states(parent) == ["active"]
    assert stage.admission.working_set == 500
    await stage.begin(parent)


async def test_three_levels_deep_a_budget_of_one_is_enough():
    stage = Stage(agents=1)
    line = [await stage.turning("0")]
    for depth in range(1, 4):
        stage.end(line[-1])
        line.append(await stage.turning(f"{depth}", inside=line[-1]))
    assert stage.states(*line) == ["lent", "lent", "lent", "active"]

    while line:
        stage.finish(line.pop())
        assert stage.states(*line[-1:]) == ["active"] * len(line[-1:])

    stage.admission.check_empty()


async def test_a_stream_open_around_the_child_does_not_keep_the_place_from_it():
    """The turn in flight cannot end before the child is over: to wait for it would be a deadlock."""
    stage = Stage(agents=1)
    parent = await stage.turning("parent", tokens=500)

    child = await stage.enter("child", tokens=100, inside=parent)
    await stage.begin(child)

    assert stage.states(parent, child) == ["lent", "active"]
    assert stage.admission.running == 2
    stage.end(child)
    stage.finish(child)
    assert (parent.state.value, parent.running) == ("active", 1)
    stage.end(parent)
    stage.finish(parent)
    stage.admission.check_empty()


async def test_a_turn_in_flight_at_the_loan_may_end_while_the_place_is_lent():
    stage = Stage(agents=1)
    parent = await stage.turning("parent", tokens=500)
    child = await stage.enter("child", inside=parent)

    stage.end(parent, tokens=700)

    assert stage.states(parent, child) == ["lent", "active"]
    assert stage.admission.running == 0
    stage.finish(child)
    assert stage.states(parent) == ["active"]
    assert stage.admission.working_set == 700


async def test_of_several_children_the_last_hands_the_place_back():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    first = await stage.enter("first", inside=parent)
    second = await stage.waits("second", inside=parent)

    stage.finish(first)
    assert stage.states(parent, second) == ["lent", "active"]
    stage.finish(second)

    assert stage.states(parent) == ["active"]


async def test_only_the_last_child_hands_its_place_back_whoever_waits():
    stage = Stage(agents=2)
    parent = await stage.enter("parent")
    first, second = [await stage.enter(name, inside=parent) for name in ("first", "second")]
    turn = await stage.try_begin(parent)
    await stage.waits("urgent", priority=1)

    stage.finish(first)
    assert stage.active() == ["second", "urgent"]
    stage.finish(second)

    assert stage.active() == ["parent", "urgent"]
    await ended(turn)


async def test_the_place_goes_back_to_the_parent_before_the_queue():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)
    await stage.waits("urgent", priority=9)

    stage.finish(child)

    assert stage.active() == ["parent"]


async def test_after_a_shrink_the_parent_waits_in_the_queue_instead():
    stage = Stage(agents=2)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)
    other = await stage.enter("other")
    stage.resize(agents=1)

    stage.finish(child)

    assert stage.active() == ["other"]
    assert stage.states(parent) == ["paused"]
    stage.finish(other)
    assert stage.active() == ["parent"]


async def test_a_parent_too_big_for_what_its_child_leaves_waits_before_all_that_are_new():
    stage = Stage(tokens=1000)
    parent = await stage.turning("parent", tokens=900)
    stage.end(parent)
    child = await stage.enter("child", tokens=100, inside=parent)
    other = await stage.enter("other", tokens=800)
    await stage.waits("new", tokens=300)

    stage.finish(child)

    assert stage.active() == ["other"]
    assert stage.admission.working_set == 800
    assert not (await stage.try_begin(parent)).done()
    stage.finish(other)
    assert stage.active() == ["parent"]


async def test_a_parent_that_begins_a_turn_meanwhile_waits_for_a_place_and_lends_it_again_after_it():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)
    turn = await stage.try_begin(parent)
    assert stage.states(parent, child) == ["paused", "active"]

    stage.resize(agents=2)
    await ended(turn)
    assert stage.states(parent, child) == ["active", "active"]
    stage.end(parent)

    assert stage.states(parent, child) == ["lent", "active"]


async def test_a_parent_that_waits_for_a_turn_goes_on_with_the_place_its_child_leaves():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)
    await stage.waits("urgent", priority=9)
    turn = await stage.try_begin(parent)

    stage.finish(child)

    await ended(turn)
    assert stage.active() == ["parent"]


async def test_a_child_that_stops_waiting_leaves_its_parent_without_a_place_till_its_turn_in_the_queue():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    first = await stage.waits("first")
    child, task = await stage.ask("child", inside=parent)
    assert stage.active() == ["first"]

    task.cancel()
    await asyncio.wait([task])

    assert stage.states(child, parent) == ["finished", "paused"]
    stage.finish(first)
    assert stage.active() == ["parent"]


async def test_a_child_that_outlives_its_parent_keeps_its_own_place_and_frees_it():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)
    waiting = await stage.waits("waiting")

    stage.finish(parent)
    assert stage.active() == ["child"]
    stage.finish(child)

    assert stage.active() == ["waiting"]
    stage.finish(waiting)
    stage.admission.check_empty()


async def test_a_child_asked_for_inside_an_agent_that_is_over_is_like_any_other():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    stage.finish(parent)

    child = await stage.enter("child", inside=parent)
    stage.finish(child)

    stage.admission.check_empty()


async def test_what_a_loan_frees_is_seen_by_a_turn_that_is_held():
    stage = Stage(tokens=1000)
    held = await stage.turning("held", tokens=300)
    parent = await stage.turning("parent", tokens=400)
    stage.end(parent, tokens=800)
    second = await stage.try_begin(held)
    assert not second.done()

    await stage.enter("child", tokens=100, inside=parent)

    assert second.done()


async def test_a_paused_parent_can_have_children_too():
    stage = Stage(agents=2)
    parent = await stage.enter("parent", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    turn = await stage.try_begin(parent)
    child = await stage.waits("child", inside=parent)

    stage.finish(big)
    await ended(turn)
    assert stage.states(parent, child) == ["active", "queued"]
    stage.end(parent)
    assert stage.states(parent, child) == ["lent", "active"]
    stage.finish(child)

    assert stage.states(parent) == ["active"]


async def test_the_time_a_place_was_lent_is_no_wait_for_a_place():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    stage.now = 1000
    child = await stage.enter("child", inside=parent)
    stage.now = 2000

    stage.finish(child)

    assert stage.totals.max_wait_s == 0


@pytest.mark.parametrize("first", ["parent", "child"])
async def test_whichever_order_a_family_ends_in_nothing_is_left(first):
    stage = Stage(agents=2)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)
    grandchild = await stage.enter("grandchild", inside=child)

    if first == "parent":
        stage.finish(parent, child, grandchild)
    else:
        stage.finish(child, grandchild, parent)

    stage.admission.check_empty()


def test_a_stream_open_around_a_child_at_a_real_gate_with_a_single_place():
    gate = watched_gate(agents=1)

    async def family(depth):
        async with gate.agent(nested="new") as agent:
            stream = await agent.begin_turn()
            try:
                await asyncio.sleep(1)
                if depth:
                    await asyncio.gather(*(family(depth - 1) for _ in range(2)))
            finally:
                stream.end()
            await turn(agent, 10)

    async def main():
        await asyncio.gather(family(3), family(2))
        watch(gate).check_empty()

    run(main())
    assert gate.stats().finished == 1 + 2 + 4 + 8 + 1 + 2 + 4


def test_an_heir_shares_the_place_of_the_agent_it_runs_in():
    gate = watched_gate(agents=1)

    async def main():
        async with gate.agent("parent") as parent:
            async with gate.agent("heir") as heir:
                assert (heir.place, heir.parent) == (parent.place, parent)
                await turn(heir, 100)
                assert (gate.stats().active, gate.stats().working_set_tokens) == (1, 110)
            assert gate.stats().working_set_tokens == 0
        watch(gate).check_empty()

    run(main())


def test_a_parent_that_learns_of_its_kind_while_its_place_is_lent_weighs_what_it_reports():
    gate = watched_gate()

    async def main():
        async with gate.agent("parent", kind="solver") as parent:
            async with gate.agent("child", kind="solver", nested="new") as child:
                await turn(child, 700)
            await turn(parent, 100)
            assert gate.stats().working_set_tokens == 110

    run(main())
