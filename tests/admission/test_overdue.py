"""Nobody is paused for ever: after `longest_pause_s` the others make room, whatever their size."""

from __future__ import annotations

from admission.stage import Stage


async def paused(stage, place):
    """Shrink the budget until this place is paused at its next turn, and open it again but for the others' sizes."""
    stage.end(place)
    await stage.try_begin(place)
    assert place.state.value == "paused"


async def stage_with_one_paused(**options):
    """Two of 400 and one of 100 tokens under a line of 850: the small one is paused."""
    stage = Stage(tokens=900, longest_pause_s=60, **options)
    small = await stage.turning("small", tokens=100)
    big = [await stage.turning(f"big-{n}", tokens=400) for n in range(2)]
    stage.resize(tokens=850)
    await paused(stage, small)
    return stage, small, big


async def test_before_the_limit_larger_agents_go_on():
    stage, small, big = await stage_with_one_paused()
    stage.now = 59.9
    for place in big:
        stage.end(place)
        await stage.begin(place)
    assert stage.states(small) == ["paused"]


async def test_after_it_whoever_begins_a_turn_makes_room():
    stage, small, (one, other) = await stage_with_one_paused()
    stage.now = 60.0
    stage.admission.look_again()
    assert small.overdue

    stage.end(one)
    await stage.try_begin(one)

    assert stage.states(small, one, other) == ["active", "paused", "active"]
    assert not small.overdue
    stage.end(small)
    stage.end(other)
    await stage.begin(other)  # nobody is overdue any more


async def test_it_goes_before_those_paused_later_and_of_several_the_first_paused_goes_first():
    stage = Stage(tokens=1100, longest_pause_s=60)
    third = await stage.turning("third", tokens=300)
    second = await stage.turning("second", tokens=200)
    first = await stage.turning("first", tokens=100)
    big = await stage.turning("big", tokens=500)
    for now, place, tokens in ((0.0, first, 1000), (20.0, second, 800), (40.0, third, 500)):
        stage.now = now
        stage.resize(tokens=tokens)
        await paused(stage, place)
    assert stage.admission.queue() == [third, second, first]

    stage.now = 60.0
    stage.admission.look_again()
    assert stage.admission.queue() == [first, third, second]

    stage.now = 80.0
    stage.admission.look_again()
    assert stage.admission.queue() == [first, second, third]
    stage.finish(big)


async def test_a_higher_priority_makes_no_room():
    stage = Stage(tokens=900, longest_pause_s=60)
    small = await stage.turning("small", tokens=100)
    vip = await stage.turning("vip", tokens=400, priority=1)
    big = await stage.turning("big", tokens=400)
    stage.resize(tokens=850)
    await paused(stage, small)
    stage.now = 61.0
    stage.admission.look_again()

    stage.end(vip)
    await stage.begin(vip)
    assert stage.states(small, vip, big) == ["paused", "active", "active"]


async def test_the_last_active_one_goes_on_and_an_overdue_one_enters_when_it_ends():
    stage = Stage(tokens=900, longest_pause_s=60)
    small = await stage.turning("small", tokens=100)
    big = await stage.turning("big", tokens=800)
    stage.resize(tokens=850)
    await paused(stage, small)
    stage.now = 61.0
    stage.admission.look_again()
    stage.end(big)
    await stage.begin(big)  # at least one is always active
    stage.finish(big)
    assert stage.states(small) == ["active"]


async def test_who_ends_while_overdue_leaves_nothing_behind():
    stage, small, (one, other) = await stage_with_one_paused()
    stage.now = 60.0
    stage.admission.look_again()
    stage.finish(small)
    stage.end(one)
    await stage.begin(one)
    stage.finish(one, other)
    assert stage.admission.live == 0
