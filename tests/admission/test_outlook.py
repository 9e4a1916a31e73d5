"""What is expected of agents some turns from now, and who may enter because of it."""

from __future__ import annotations

import asyncio

import pytest
from admission.lives import turn, watch, watched_gate
from admission.stage import Stage

from concur_agents.control.base import Budget
from concur_agents.kind import Kind
from concur_agents.life_table import AHEAD_TURNS
from concur_agents.outlook import Outlook
from concur_agents.place import Place
from concur_agents.simulation.virtual_time import run


def made(tokens, *, growth, lives=()):
    """A place of a kind whose agents have lived for so many turns."""
    kind = Kind("some")
    kind.growth.learn(growth)
    for turns in lives:
        for age in range(turns):
            kind.lives.turn_ended(age)
        kind.lives.life_ended(turns)
    place = Place("one", kind, expected_tokens=tokens)
    place.size_up()
    return place


def outlook_of(*places):
    outlook = Outlook()
    for place in places:
        outlook.add(place)
    return outlook


def ahead(turns, **reserves):
    return Budget(tokens=1.0, ahead_turns=turns, **reserves)


# ---------------------------------------------------------------------- the sums


def test_while_nobody_has_ended_all_grow_for_as_long_as_is_looked():
    outlook = outlook_of(made(1000, growth=100), made(500, growth=50))

    assert outlook.highest(ahead(0)) == 1500
    assert outlook.highest(ahead(0, admit_turns=1.5)) == 1500 + 1.5 * 150
    assert [outlook.highest(ahead(turns)) for turns in AHEAD_TURNS] == [1500 + 150 * turns for turns in AHEAD_TURNS]
    assert outlook.highest(ahead(100)) == 1500 + 8 * 150


def test_where_agents_end_sooner_than_they_grow_it_is_highest_now():
    assert outlook_of(made(1000, growth=10, lives=50 * [1])).highest(ahead(8)) == 1000


def test_it_is_highest_where_the_growth_is_made_up_for_by_the_ends():
    place = made(100, growth=100, lives=200 * [6])

    highest = outlook_of(place).highest(ahead(8))

    assert highest == max(place.ahead) == place.ahead[1]  # after four turns; in the fifth and sixth they end
    assert 0.9 * 500 < highest < 500


def test_growth_that_is_certain_counts_though_all_are_about_to_end():
    place = made(1000, growth=1000, lives=50 * [1])

    assert outlook_of(place).highest(ahead(8, admit_turns=1.5)) == 2500


def test_the_old_are_expected_to_hold_less_than_the_young_of_the_same_size():
    young, old = (made(1000, growth=10, lives=100 * [8]) for _ in range(2))
    old.age = 7

    assert outlook_of(old).highest(ahead(8)) <= outlook_of(young).highest(ahead(8))
    assert old.ahead[0] < 0.6 * young.ahead[0]


def test_one_that_goes_takes_out_what_it_brought_whatever_was_learned_meanwhile():
    stays, goes = made(1000, growth=100), made(300, growth=10)
    outlook = outlook_of(stays, goes)
    goes.kind.lives.turn_ended(0)
    goes.kind.lives.life_ended(1)

    outlook.remove(goes)

    assert outlook.highest(ahead(8)) == pytest.approx(1000 + 8 * 100)


def test_who_is_weighed_beside_the_others_is_not_among_them():
    outlook = outlook_of(made(1000, growth=100))

    assert outlook.beside(made(300, growth=10)).highest(ahead(4)) == 1300 + 4 * 110
    assert outlook.highest(ahead(4)) == 1400


# ---------------------------------------------------------------------- who may enter


async def test_who_enters_leaves_room_for_all_to_grow_as_far_as_is_looked():
    stage = Stage(tokens=1000, ahead_turns=4)
    stage.kind("some").growth.learn(50)
    await stage.turning("a", tokens=300)
    await stage.enter("b", tokens=300)
    waiting = await stage.waits("c", tokens=1)

    stage.resize(tokens=1000, ahead_turns=3)  # two turns of three are 100 tokens each

    assert stage.states(waiting) == ["active"]


async def test_the_reason_names_the_room_that_is_missing():
    stage = Stage(tokens=1000, ahead_turns=4)
    stage.kind("some").growth.learn(50)
    await stage.turning("a", tokens=300)
    await stage.waits("b", tokens=400)

    assert stage.admission.waiting()[0].reason == "100 more tokens of room in 1,000, as all will have grown"


async def test_the_look_ahead_pauses_nobody():
    stage = Stage(tokens=1000, ahead_turns=8)
    stage.kind("some").growth.learn(500)
    a = await stage.turning("a", tokens=300)
    stage.end(a)

    await stage.begin(a)


# ---------------------------------------------------------------------- what counts as a life


def ages(*places):
    return [place.age for place in places]


async def lived(stage, name, *contexts):
    """An agent between two turns that has told these contexts, one a turn."""
    place = await stage.turning(name, tokens=contexts[0])
    stage.end(place, contexts[0])
    for tokens in contexts[1:]:
        await stage.begin(place)
        stage.end(place, tokens)
    return place


def endings(stage):
    """How many lives have ended, of how many turns."""
    lives = stage.kind("some").lives
    return lives._all_ended, lives._all_turns


async def test_each_turn_makes_an_agent_older_unless_it_made_no_call():
    stage = Stage(tokens=10_000)
    a = await lived(stage, "a", 100, 150, 180)
    await stage.begin(a)

    stage.admission.end_turn(a, counts=False)

    assert a.age == 3
    assert endings(stage) == (0, 3)


async def test_an_agent_that_is_over_has_ended_once_wherever_it_stood():
    stage = Stage(agents=2)
    paused, active = await lived(stage, "paused", 10), await lived(stage, "active", 200)
    stage.resize(agents=1)
    await stage.try_begin(paused)
    assert stage.states(paused, active) == ["paused", "active"]

    stage.finish(paused, paused, active)

    assert endings(stage) == (2, 2)


async def test_who_never_took_a_turn_tells_nothing():
    stage = Stage(agents=2)
    never = await stage.enter("never", tokens=10)
    turning = await stage.turning("turning", tokens=10)

    stage.finish(never, turning)

    assert endings(stage) == (0, 0)


async def test_a_pause_and_a_loan_are_no_ends():
    stage = Stage(agents=1)
    parent = await lived(stage, "parent", 500)
    child = await stage.turning("child", tokens=100, inside=parent)
    assert endings(stage)[0] == 0

    stage.end(child, 100)
    stage.finish(child)

    assert endings(stage) == (1, 2)
    assert parent.age == 1


async def test_a_context_that_is_rewritten_begins_a_new_life_and_a_trimmed_one_does_not():
    stage = Stage(tokens=10_000)

    trimmed = await lived(stage, "trimmed", 500, 800, 400)
    rewritten = await lived(stage, "rewritten", 500, 800, 399)

    assert ages(trimmed, rewritten) == [3, 1]
    assert endings(stage) == (1, 6)


async def test_a_first_report_below_the_guess_ends_nothing():
    stage = Stage(tokens=10_000)
    a = await stage.turning("a", tokens=5000)

    stage.end(a, tokens=500)

    assert a.age == 1
    assert endings(stage) == (0, 1)


async def test_a_turn_that_outlives_its_agent_tells_nothing():
    stage = Stage(agents=2)
    a = await lived(stage, "a", 100)
    await stage.begin(a)
    stage.finish(a)

    stage.admission.end_turn(a)

    assert endings(stage) == (1, 1)


def test_contexts_beside_each_other_are_one_life():
    gate = watched_gate()

    async def main():
        async with gate.agent() as agent:
            await turn(agent, 1000)
            await asyncio.gather(*(turn(agent, 1000) for _ in range(3)))
            await turn(agent, 2800)
        watch(gate).check_empty()

    run(main())

    (kind,) = {place.kind for place in watch(gate).places}
    assert (kind.lives._all_ended, kind.lives._all_turns) == (1, 5)
