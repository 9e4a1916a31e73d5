"""Who goes first: priority, then paused before new; of those paused who was paused last, of the new who came first."""

from __future__ import annotations

import pytest
from admission.stage import Stage


async def test_first_come_first_served():
    stage = Stage(agents=1)
    here = await stage.enter()
    waiting = [await stage.waits(name) for name in ("a", "b", "c")]

    entered = []
    for place in waiting:
        stage.finish(here)
        here = place
        entered.extend(stage.active())

    assert entered == ["a", "b", "c"]


async def test_higher_priority_goes_first_whoever_came_first():
    stage = Stage(agents=1)
    here = await stage.enter()
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        await stage.waits(name, priority=priority)

    stage.finish(here)

    assert [place.name for place in stage.admission.queue()] == ["first", "second", "low"]
    assert stage.active() == ["high"]


async def test_paused_goes_before_new_of_the_same_priority_and_after_new_of_a_higher_one():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=10)
    big = await stage.turning("big", tokens=20)
    await stage.waits("new")
    await stage.waits("urgent", priority=1)
    stage.resize(agents=1)

    await stage.try_begin(small)

    assert [waiting.name for waiting in stage.admission.waiting()] == ["urgent", "small", "new"]
    stage.finish(big)
    assert stage.active() == ["urgent"]
    stage.resize(agents=2)
    assert stage.active() == ["small", "urgent"]


@pytest.mark.parametrize("order", [["first", "second"], ["second", "first"]])
async def test_of_two_paused_the_one_that_was_paused_last_resumes_first(order):
    stage = Stage(agents=3)
    places = {name: await stage.enter(name, tokens=10) for name in ("first", "second")}
    third = await stage.turning("third", tokens=30)
    stage.resize(agents=1)
    for name in order:
        assert not (await stage.try_begin(places[name])).done()

    stage.finish(third)

    assert stage.active() == [order[-1]]


async def test_a_context_that_changes_while_paused_keeps_its_place_in_the_order():
    stage = Stage(agents=3)
    first, second = [await stage.enter(name, tokens=10) for name in ("first", "second")]
    await stage.turning("third", tokens=30)
    stage.resize(agents=1)
    for place in (second, first):
        await stage.try_begin(place)

    stage.admission.resize_place(second, 5, weighed=True)

    assert stage.admission.queue() == [first, second]


async def test_a_small_newcomer_does_not_overtake_the_queue_where_only_agents_are_counted():
    stage = Stage(agents=1)
    await stage.enter()
    await stage.waits("big", tokens=1_000_000)
    await stage.waits("small", tokens=1)

    assert [waiting.name for waiting in stage.admission.waiting()] == ["big", "small"]


async def test_nobody_enters_before_the_first_budget_and_then_all_that_fit_in_their_order():
    stage = Stage()
    for name in ("a", "b", "c"):
        await stage.waits(name)
    assert "first look at the server's metrics" in stage.admission.waiting()[0].reason

    stage.resize(agents=2)

    assert stage.active() == ["a", "b"]


async def test_a_budget_without_limits_lets_everybody_in():
    stage = Stage(agents=1)
    await stage.enter("a")
    for name in ("b", "c"):
        await stage.waits(name, tokens=1_000_000)

    stage.resize()

    assert stage.active() == ["a", "b", "c"]


async def test_many_that_leave_from_the_middle_of_the_queue_are_forgotten():
    stage = Stage(agents=1)
    here = await stage.enter()
    last = await stage.waits("last")
    crowd = [await stage.ask(f"crowd-{n}", kind=f"kind-{n % 3}") for n in range(300)]
    for place, task in crowd:
        task.add_done_callback(lambda task: task.exception())
        stage.admission.finish(place)

    queue = stage.admission._queue
    assert len(queue) == 1
    assert len(queue._unsized) < 100
    assert sum(len(heap) for heap in queue._by_kind.values()) < 100
    stage.finish(here)
    assert stage.active() == ["last"]
    stage.finish(last)
    stage.admission.check_empty()


async def test_the_head_is_told_how_much_room_is_missing_and_for_when():
    stage = Stage(tokens=10_000, admit_turns=1.5, pause_turns=1)
    await stage.enter("first", tokens=9_000)
    await stage.waits("head", tokens=3_000)

    # Each is taken to grow by a third of its size a turn.
    assert stage.admission.waiting()[0].reason == "8,000 more tokens of room in 10,000, as all will have grown"


@pytest.mark.parametrize("priority", [0, 3])
async def test_each_that_waits_is_told_of_with_its_size_its_wait_and_its_reason(priority):
    stage = Stage(agents=1)
    await stage.enter()
    stage.now = 5
    await stage.waits("head", tokens=700, priority=priority)
    stage.now = 8
    await stage.waits("next", tokens=10)
    stage.now = 10

    head, behind = stage.admission.waiting()

    assert (head.name, head.state, head.waited_s, head.footprint) == ("head", "queued", 5, 700)
    assert head.reason == "a place: 1 active of 1"
    assert (behind.waited_s, behind.reason) == (2, "its turn in the queue, behind 'head'")
