"""A tool wait is leased: past the lease a waiter may take the place, and nobody else loses anything."""

from __future__ import annotations

import pytest
from admission.stage import Ahead, Stage

from concur_agents import Budget
from concur_agents.head_start import HeadStart
from concur_agents.place import State


async def idle(stage, name, tokens):
    """A place between two turns."""
    place = await stage.turning(name, tokens=tokens)
    stage.end(place, tokens)
    return place


async def test_past_its_lease_a_place_is_taken_by_who_would_not_fit_otherwise():
    stage = Stage(tokens=1000, tool_lease_s=10)
    away = await idle(stage, "away", 800)
    head = await stage.waits("head", tokens=500)

    stage.now = 9.0
    stage.admission.look_again()
    assert stage.states(away, head) == ["active", "queued"]

    stage.now = 10.0
    stage.admission.look_again()
    assert stage.states(away, head) == ["lapsed", "active"]


async def test_untaken_it_goes_on_unhindered():
    stage = Stage(tokens=1000, tool_lease_s=10)
    away = await idle(stage, "away", 800)

    stage.now = 100.0
    stage.admission.look_again()
    await stage.begin(away)

    assert away.state is State.ACTIVE


async def test_one_that_comes_back_without_its_place_joins_the_paused_ones_before_the_new():
    stage = Stage(tokens=1000, tool_lease_s=10)
    away = await idle(stage, "away", 800)
    stage.now = 10.0
    head = await stage.turning("head", tokens=500)
    new = await stage.waits("new", tokens=700)

    turn = await stage.try_begin(away)
    assert stage.states(away, new) == ["paused", "queued"]
    assert not turn.done()

    stage.end(head)
    stage.finish(head)
    await turn
    assert stage.states(away, new) == ["active", "queued"]


async def test_one_that_comes_back_when_there_is_room_again_does_not_wait():
    stage = Stage(tokens=1000, tool_lease_s=10)
    away = await idle(stage, "away", 800)
    stage.now = 10.0
    head = await stage.turning("head", tokens=500)
    stage.end(head)
    stage.finish(head)

    await stage.begin(away)


async def test_the_one_idle_for_longest_goes_first_and_no_more_than_needed():
    stage = Stage(tokens=1000, tool_lease_s=10)
    first = await idle(stage, "first", 300)
    stage.now = 1.0
    second = await idle(stage, "second", 300)
    stage.now = 2.0
    third = await idle(stage, "third", 300)
    stage.now = 50.0

    await stage.enter("head", tokens=400)

    assert stage.states(first, second, third) == ["lapsed", "active", "active"]


async def test_nobody_loses_a_place_if_that_would_not_let_the_head_in():
    stage = Stage(tokens=1000, tool_lease_s=10)
    away = await idle(stage, "away", 200)
    await stage.turning("busy", tokens=700)
    stage.now = 50.0

    await stage.waits("head", tokens=900)

    assert away.state is State.ACTIVE


async def test_a_turn_in_flight_is_never_taken():
    stage = Stage(tokens=1000, tool_lease_s=0)
    busy = await stage.turning("busy", tokens=800)
    stage.now = 50.0

    await stage.waits("head", tokens=500)

    assert busy.state is State.ACTIVE


async def test_nor_is_one_that_a_thread_has_begun_before_the_loop_knows():
    stage = Stage(agents=2, tool_lease_s=0)
    going_on, away = await stage.turning("going on"), await stage.turning("away")
    start = HeadStart()
    stage.admission.offer_head_start(going_on, start, withheld=False)
    stage.end(going_on, 100)
    stage.end(away, 100)
    ahead = Ahead(stage.admission, going_on, start)
    assert start.claim(ahead)

    await stage.enter("head")

    assert stage.states(going_on, away) == ["active", "lapsed"]
    assert going_on.running == 1
    ahead.tell()
    assert going_on.running == 1


async def test_whose_place_is_taken_begins_no_turn_before_the_loop_knows():
    stage = Stage(agents=1, tool_lease_s=0)
    away = await stage.turning("away")
    start = HeadStart()
    stage.admission.offer_head_start(away, start, withheld=False)
    stage.end(away, 100)

    await stage.enter("head")

    assert away.state is State.LAPSED
    assert not start.claim(Ahead(stage.admission, away, start))


async def test_who_never_told_of_a_turn_keeps_its_place():
    stage = Stage(agents=1, tool_lease_s=0)
    silent = await stage.enter("silent")
    stage.now = 50.0

    await stage.waits("head")

    assert silent.state is State.ACTIVE


async def test_leases_go_with_a_budget_of_agents_too():
    stage = Stage(agents=1, tool_lease_s=5)
    away = await idle(stage, "away", 100)
    stage.now = 5.0

    await stage.enter("head", tokens=100)

    assert away.state is State.LAPSED


async def test_a_lapsed_one_that_is_over_leaves_nothing_behind():
    stage = Stage(tokens=1000, tool_lease_s=0)
    away = await idle(stage, "away", 800)
    head = await stage.enter("head", tokens=500)

    stage.finish(away, head)

    stage.admission.check_empty()


async def test_without_a_lease_a_place_is_kept_for_ever():
    stage = Stage(tokens=1000)
    away = await idle(stage, "away", 800)
    stage.now = 1e6

    await stage.waits("head", tokens=500)

    assert away.state is State.ACTIVE


def test_a_lease_cannot_be_negative():
    with pytest.raises(ValueError, match="lapsed before it began"):
        Budget(tool_lease_s=-1)
