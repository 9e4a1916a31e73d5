"""Closing and refusing: who waits is woken with the reason, who is active may finish."""

from __future__ import annotations

import pytest
from admission.stage import Stage, ended, settle

from concur_agents.errors import GateClosed, MetricsError


async def test_everybody_who_waits_is_woken_and_those_inside_may_finish():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    _, queued = await stage.ask("queued")
    stage.resize(agents=1)
    paused = await stage.try_begin(small)
    held = await stage.try_begin(big)
    assert held.done()

    stage.admission.close()
    await settle()

    for task in (queued, paused):
        with pytest.raises(GateClosed, match="was waiting when the gate was closed"):
            await ended(task)
    stage.end(big)
    await stage.begin(big)
    stage.finish(small, big)
    stage.admission.check_empty()


async def test_a_held_turn_is_woken_too_and_the_turn_in_flight_goes_on():
    stage = Stage(agents=2)
    small = await stage.turning("small", tokens=1)
    await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    held = await stage.try_begin(small)

    stage.admission.close()
    await settle()

    with pytest.raises(GateClosed):
        await ended(held)
    assert small.running == 1
    await stage.begin(small)  # it has its place still


async def test_nobody_enters_afterwards():
    stage = Stage(agents=1)
    here = await stage.enter()
    stage.admission.close()

    with pytest.raises(GateClosed, match="make a new one"):
        await stage.admission.acquire(stage.place())
    stage.finish(here)
    stage.resize(agents=5)

    stage.admission.check_empty()


async def test_an_agent_paused_at_the_closing_cannot_begin_another_turn():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    await stage.try_begin(small)
    stage.admission.close()
    await settle()

    with pytest.raises(GateClosed, match="has no place"):
        await stage.admission.begin_turn(small)


async def test_a_parent_has_its_place_back_from_a_child_that_ends_after_the_closing():
    stage = Stage(agents=1)
    parent = await stage.enter("parent")
    child = await stage.enter("child", inside=parent)

    stage.admission.close()
    stage.finish(child)

    await stage.begin(parent)


async def test_who_is_let_in_at_the_moment_of_closing_is_in():
    stage = Stage(agents=1)
    here = await stage.enter("here")
    place, task = await stage.ask("next")

    stage.admission.finish(here)
    stage.admission.close()
    await settle()

    await ended(task)
    assert stage.active() == ["next"]
    stage.finish(place)


async def test_refusing_wakes_those_never_admitted_and_leaves_the_paused_alone():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    paused = await stage.try_begin(small)
    _, queued = await stage.ask("queued")

    stage.admission.refuse(MetricsError("no metrics at http://server/metrics"))
    await settle()

    with pytest.raises(MetricsError, match="no metrics at"):
        await ended(queued)
    assert not paused.done()
    stage.finish(big)
    await ended(paused)


async def test_a_budget_that_comes_right_after_a_refusal_loses_no_place_to_the_refused():
    stage = Stage()
    _, refused = await stage.ask("refused")
    stage.admission.refuse(MetricsError("none"))
    stage.resize(agents=1)
    await settle()

    with pytest.raises(MetricsError):
        await ended(refused)

    await stage.enter("next")
