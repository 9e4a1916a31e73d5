"""A big head of the queue may be passed by smaller ones, for a bounded time; then what becomes free is kept for it."""

from __future__ import annotations

from admission.stage import Stage, ended


async def blocked(limit=10.0, **budget):
    """A budget of 1000 tokens, 600 in use, and a head that needs 900."""
    stage = Stage(passing_limit_s=limit, tokens=1000, **budget)
    here = await stage.enter("here", tokens=600)
    head = await stage.waits("head", tokens=900)
    return stage, here, head


async def test_a_smaller_one_that_fits_passes_a_head_that_does_not():
    stage, _, _ = await blocked()

    await stage.enter("small", tokens=300)
    await stage.waits("too big for what is left", tokens=200)

    assert stage.active() == ["here", "small"]


async def test_passing_ends_a_bounded_time_after_the_first_that_passed_and_then_places_are_kept():
    stage, here, _ = await blocked(limit=10)
    stage.now = 100  # the wait itself does not count, being passed does
    first = await stage.enter("first", tokens=100)
    stage.now = 109
    second = await stage.enter("second", tokens=100)
    stage.now = 110

    await stage.waits("late", tokens=100)
    stage.finish(first, second)
    assert stage.active() == ["here"]
    stage.finish(here)

    assert stage.active() == ["head", "late"]


async def test_a_head_larger_than_the_whole_budget_enters_alone_once_its_places_were_kept():
    stage = Stage(passing_limit_s=10, tokens=1000)
    here = await stage.enter("here", tokens=600)
    await stage.waits("giant", tokens=5000)
    await stage.enter("small", tokens=100)
    stage.now = 10
    await stage.waits("late", tokens=100)

    stage.finish(here)
    assert stage.active() == ["small"]
    stage.finish(*(place for place in stage.admission.living() if place.name == "small"))

    assert stage.active() == ["giant"]


async def test_a_limit_of_nothing_lets_nobody_pass():
    stage, _, _ = await blocked(limit=0)

    await stage.waits("small", tokens=100)

    assert stage.active() == ["here"]


async def test_those_who_pass_keep_their_order_among_each_other():
    stage, here, _ = await blocked()
    for name, priority in (("b", 0), ("c", 0), ("a", 0)):
        await stage.waits(name, tokens=500, priority=priority)
    await stage.waits("small of low priority", tokens=500, priority=-1)

    stage.finish(here)
    assert stage.active() == ["head"]
    stage.finish(*stage.admission.those(stage.admission.places[1].state))

    assert stage.active() == ["b", "c"]


async def test_one_that_became_smaller_while_it_waited_passes():
    stage = Stage(tokens=1000)
    kind = stage.kind("some")
    await stage.turning("here", tokens=500)
    await stage.waits("head", kind="other", tokens=900)
    await stage.waits("small", tokens=600)

    kind.learned_prefix = 300
    stage.admission.shared_prefix_changed(kind, 0)

    assert stage.active() == ["here", "small"]


async def test_nobody_passes_where_the_agents_are_at_their_limit():
    stage, _, _ = await blocked(agents=1)

    await stage.waits("small", tokens=1)

    assert stage.active() == ["here"]


async def test_a_paused_head_is_passed_too_and_wins_its_place_back_after_the_limit():
    stage = Stage(passing_limit_s=10, tokens=1000)
    small = await stage.enter("small", tokens=400)
    big = await stage.turning("big", tokens=500)
    stage.end(big, tokens=900)
    turn = await stage.try_begin(small)
    assert stage.states(small) == ["paused"]

    passer = await stage.enter("passer", tokens=50)
    stage.now = 10
    await stage.waits("late", tokens=50)
    stage.finish(big)

    assert stage.active() == ["small", "passer", "late"]
    await ended(turn)
    stage.finish(small, passer)
