"""Who is paused where a turn begins: the smallest first, the newest among equals, until under the line, never all."""

from __future__ import annotations

import asyncio

import pytest
from admission.stage import Stage, ended

from concur_agents.errors import AgentFinished


async def paused_of(sizes, *, pause_turns=0.0, growth=0.0, **shrunk):
    """Let these sizes in, shrink the budget, let each begin a turn, small ones first; who is paused, by index."""
    stage = Stage(passing_limit_s=0)
    stage.resize()
    stage.kind("some").growth.learn(growth)
    places = [await stage.turning(f"{n}", tokens=size) for n, size in enumerate(sizes)]
    for place in places:
        stage.end(place)
    stage.resize(pause_turns=pause_turns, admit_turns=pause_turns, **shrunk)
    await stage.waits("giant", priority=1, tokens=1e9)  # so that nobody resumes
    victims = stage.admission.victims()  # `Watched` holds each real decision against these
    for place in sorted(places, key=lambda place: place.footprint):
        await stage.try_begin(place)
    assert {place for place in places if place.state.value == "paused"} == victims
    return [n for n, place in enumerate(places) if place in victims]


async def test_the_smallest_contexts_are_paused_first_and_only_until_the_rest_fits():
    assert await paused_of([500, 100, 300, 200], tokens=800) == [1, 3]
    assert await paused_of([500, 100, 300, 200], tokens=799) == [1, 2, 3]


async def test_the_newest_is_paused_first_among_equals():
    assert await paused_of([200, 200, 200, 200], tokens=600) == [3]
    assert await paused_of([200, 200, 200, 200], agents=2) == [2, 3]


async def test_just_full_pauses_nobody():
    stage = Stage(tokens=500, agents=2)
    for place in [await stage.turning("a", tokens=200), await stage.turning("b", tokens=300)]:
        stage.end(place)
        await stage.begin(place)


async def test_each_counts_with_its_expected_growth():
    assert await paused_of([200, 300], growth=50, pause_turns=2, tokens=700) == []
    assert await paused_of([200, 300], growth=50, pause_turns=2, tokens=699) == [0]


async def test_both_limits_hold():
    assert await paused_of([100, 200, 300, 400], agents=3, tokens=700) == [0, 1]
    assert await paused_of([100, 200, 300, 400], agents=2, tokens=999) == [0, 1]


async def test_the_largest_goes_on_whatever_the_budget_says():
    assert await paused_of([100, 200, 300], tokens=1) == [0, 1]
    assert await paused_of([300, 300], agents=1, tokens=1) == [1]


async def test_an_agent_that_never_takes_turns_is_counted_and_never_paused():
    stage = Stage(agents=3)
    await stage.enter("without turns", tokens=1)
    small = await stage.turning("small", tokens=100)
    big = await stage.turning("big", tokens=200)
    stage.end(small)
    stage.end(big)
    stage.resize(agents=1)

    for place in (small, big):
        await stage.try_begin(place)

    assert stage.active() == ["without turns"]


async def test_a_larger_agent_goes_on_where_pausing_smaller_ones_would_do():
    stage = Stage(tokens=1000)
    small = await stage.turning("small", tokens=300)
    big = await stage.turning("big", tokens=600)
    stage.end(small)
    stage.end(big, tokens=800)

    await stage.begin(big)  # though nobody has been paused yet
    assert not (await stage.try_begin(small)).done()


async def test_a_pause_makes_room_for_the_head_of_the_queue_at_once():
    stage = Stage(tokens=1000)
    small = await stage.enter("small", tokens=300)
    big = await stage.turning("big", tokens=600)
    await stage.waits("urgent", priority=1, tokens=150)
    stage.end(big, tokens=850)

    await stage.try_begin(small)

    assert stage.active() == ["big", "urgent"]


async def test_pausing_an_agent_with_a_turn_in_flight_holds_only_its_new_turn():
    stage = Stage(tokens=1000)
    small = await stage.turning("small", tokens=300)
    big = await stage.turning("big", tokens=600)
    stage.end(big, tokens=800)

    second = await stage.try_begin(small)

    assert not second.done()
    assert (small.state.value, small.running) == ("active", 1)
    assert [waiting.state for waiting in stage.admission.waiting()] == ["held"]
    stage.end(small)  # now nothing of it is in flight: its place goes, its second turn waits on
    assert (small.state.value, small.running) == ("paused", 0)
    stage.finish(big)
    await ended(second)
    assert (small.state.value, small.running) == ("active", 1)


async def test_a_held_turn_goes_on_when_there_is_room_again():
    stage = Stage(tokens=1000)
    small = await stage.turning("small", tokens=300)
    big = await stage.turning("big", tokens=600)
    stage.end(big, tokens=800)
    held = [await stage.try_begin(small) for _ in range(2)]
    assert [task.done() for task in held] == [False, False]

    stage.admission.resize_place(big, 700, weighed=True)

    for turn in held:
        await ended(turn)
    assert small.running == 3


async def test_a_call_made_while_a_stream_is_open_does_not_wait_for_its_own_agent():
    """All that run hold a stream open and make another call inside it: the largest goes on, then the next."""
    stage = Stage(agents=3)
    agents = [await stage.turning(f"{n}", tokens=4**n) for n in (1, 2, 3)]
    stage.resize(agents=1, tokens=1)
    inner = [await stage.try_begin(place) for place in agents]
    order = []

    for _ in agents:
        (place,) = [place for place, task in zip(agents, inner, strict=True) if task.done() and place.name not in order]
        order.append(place.name)
        stage.end(place)  # the call
        stage.end(place)  # the stream around it
        stage.finish(place)
        await asyncio.sleep(0)

    assert order == ["3", "2", "1"]
    stage.admission.check_empty()


async def test_a_held_turn_that_is_given_up_leaves_nothing_behind():
    stage = Stage(agents=2)
    small = await stage.turning("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    held = await stage.try_begin(small)

    held.cancel()
    await asyncio.wait([held])

    assert stage.admission.waiting() == []
    stage.end(small)
    assert stage.states(small) == ["active"]
    stage.finish(small, big)
    stage.admission.check_empty()


async def test_a_held_turn_of_an_agent_that_ends_is_told_so():
    stage = Stage(agents=2)
    small = await stage.turning("small", tokens=1)
    await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    held = await stage.try_begin(small)

    stage.finish(small)

    with pytest.raises(AgentFinished):
        await ended(held)
    assert stage.active() == ["big"]


@pytest.mark.parametrize("gone", range(3))
async def test_of_several_that_are_held_one_that_ends_leaves_the_others_held(gone):
    stage = Stage(agents=5)
    *small, big = [await stage.turning(f"{n}", tokens=4**n) for n in range(5)]
    stage.resize(agents=1)
    for place in small:
        await stage.try_begin(place)

    stage.finish(small[gone])

    left = [place.name for place in small if place is not small[gone]]
    assert [waiting.name for waiting in stage.admission.waiting()] == left
    stage.resize()
    assert stage.admission.waiting() == []
    assert [place.running for place in small if place is not small[gone]] == [2, 2, 2]
    assert big.running == 1


async def test_a_paused_agent_without_a_turn_to_begin_still_wins_its_place_back():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    turn = await stage.try_begin(small)
    turn.cancel()
    await asyncio.wait([turn])
    assert stage.states(small) == ["paused"]

    stage.finish(big)

    assert stage.states(small) == ["active"]
    assert small.running == 0
    await stage.begin(small)


async def test_the_pauses_and_the_longest_wait_are_counted():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    stage.now = 100
    await stage.try_begin(small)
    stage.now = 103

    stage.finish(big)

    assert stage.totals.pauses == 1
    assert stage.totals.max_wait_s == 3


# ---------------------------------------------------------------------- a turn in flight counts with its growth


async def crowd(number, *, size, growth, **budget):
    """So many equal agents, each with a turn in flight; nobody passes the head of the queue."""
    stage = Stage(passing_limit_s=0)
    stage.resize()
    stage.kind("some").growth.learn(growth)
    places = [await stage.turning(f"{n}", tokens=size) for n in range(number)]
    stage.resize(**budget)
    return stage, places


@pytest.mark.parametrize("backwards", [False, True])
async def test_of_equal_agents_some_pause_when_the_line_is_crossed(backwards):
    """Who comes back from a turn has grown, those in flight are about to: it is not the largest for that."""
    stage, places = await crowd(4, size=200, growth=50, tokens=1000, pause_turns=1, admit_turns=1)

    for place in places[::-1] if backwards else places:
        stage.end(place, tokens=250)
        await stage.try_begin(place)

    assert stage.states(*places) == ["active", "active", "active", "paused"]
    assert stage.admission.working_set == 750


@pytest.mark.parametrize("backwards", [False, True])
async def test_equal_agents_never_fill_more_than_the_budget_in_whatever_order_they_come_back(backwards):
    stage, places = await crowd(10, size=100, growth=100, tokens=2500, pause_turns=1, admit_turns=1)
    await stage.waits("giant", priority=1, tokens=1e9)  # so that nobody resumes
    order = places[::-1] if backwards else places

    for _ in range(20):
        for place in [place for place in order if place.running]:
            stage.end(place, tokens=place.footprint + 100)
            await stage.try_begin(place)
            # The turn of growth that is kept free is for those in flight, who pause only when they come back.
            assert stage.admission.active == 1 or stage.admission.working_set <= 2500

    assert stage.totals.pauses == 9


async def test_the_order_of_places_follows_their_turns():
    """By powers of two: 200 lies in the one up to 256, and 257 in the next."""
    stage, (a, b, c) = await crowd(3, size=200, growth=57)
    order = stage.admission._active.by_size

    def names():
        return [place.name for place in order]

    assert names() == ["2", "1", "0"]  # all alike with the growth of their turns: the newest first
    stage.end(a)
    assert names() == ["0", "2", "1"]
    await stage.begin(a)
    assert names() == ["2", "1", "0"]
    stage.end(c, tokens=600)
    assert names() == ["1", "0", "2"]
    await stage.begin(c)
    await stage.begin(c)  # a second one beside it: counted once
    assert [place.order_key[0] for place in order] == [9, 9, 10]
    stage.end(c)
    stage.end(c)
    stage.end(b, tokens=255)
    assert names() == ["1", "0", "2"]
    stage.finish(a, b, c)
    stage.admission.check_empty()


async def test_among_those_alike_the_newest_pauses_though_it_is_not_the_smallest_to_the_token():
    stage, (old, new) = await crowd(2, size=1, growth=0)
    stage.admission.resize_place(old, 300, weighed=True)
    stage.admission.resize_place(new, 500, weighed=True)
    stage.resize(tokens=700)

    for place in (old, new):
        stage.end(place)
        await stage.try_begin(place)

    assert stage.states(old, new) == ["active", "paused"]


async def test_a_larger_agent_in_flight_does_not_go_before_a_smaller_one_for_its_growth():
    stage, (a, b) = await crowd(2, size=200, growth=50, tokens=400)

    stage.end(a, tokens=260)

    assert (await stage.try_begin(a)).done()  # 260 against 250
    stage.end(b, tokens=250)
    assert not (await stage.try_begin(b)).done()


async def test_a_held_turn_keeps_its_place_in_the_line_while_others_begin_and_end_turns():
    """Two agents hold a stream open and ask for one more turn; the larger one's comes first, as it will be."""
    stage, (a, b, big) = await crowd(3, size=70, growth=50)
    stage.admission.resize_place(b, 100, weighed=True)
    stage.admission.resize_place(big, 500, weighed=True)
    stage.resize(tokens=590)
    held = {place: await stage.try_begin(place) for place in (a, b)}
    assert [waiting.name for waiting in stage.admission.waiting()] == ["0", "1"]

    stage.end(big)
    await stage.begin(big)
    assert [waiting.name for waiting in stage.admission.waiting()] == ["0", "1"]
    stage.admission.resize_place(a, 210, weighed=True)
    assert [waiting.name for waiting in stage.admission.waiting()] == ["1", "0"]

    stage.admission.resize_place(big, 400, weighed=True)
    assert [task.done() for task in held.values()] == [False, False]
    await asyncio.sleep(0)
    assert held[a].done()
    stage.finish(big)
    await ended(held[b])
