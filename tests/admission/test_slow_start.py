"""Agents of a kind that has not told its size yet enter a token budget in growing batches."""

from __future__ import annotations

import pytest
from admission.stage import Stage

from concur_agents import lines


@pytest.fixture(autouse=True)
def one_at_first(monkeypatch):
    """The rule is the same with smaller numbers, and its steps are seen one by one."""
    monkeypatch.setattr(lines, "FIRST_BATCH", 1)
    monkeypatch.setattr(lines, "BATCH_GROWTH", 1)


def first_turn_done(stage, place, tokens):
    place.kind.learn_first_turn(tokens, None)
    stage.end(place, tokens)


async def batch(stage):
    """The places that are active, each with its first turn begun."""
    cold = [place for place in stage.admission.living() if place.state.value == "active" and not place.warm]
    for place in cold:
        await stage.begin(place)
    return cold


async def test_the_batches_double_as_long_as_nobody_knows_the_size():
    stage = Stage(tokens=999)
    for n in range(100):
        await stage.ask(f"{n}")

    sizes = []
    while cold := await batch(stage):
        sizes.append(len(cold))
        for place in cold:
            first_turn_done(stage, place, 10)

    assert sizes == [1, 2, 4, 8, 16, 32, 36]


async def test_the_first_batch_is_one_that_any_cache_holds(monkeypatch):
    monkeypatch.undo()
    stage = Stage(tokens=1_000_000)
    for n in range(100):
        await stage.ask(f"{n}")

    assert len(await batch(stage)) == 8


async def test_a_known_size_does_not_open_the_gate_at_once():
    """What one agent tells is a guess for the others: while not all would fit by it, they still come in batches."""
    stage = Stage(tokens=199)
    for n in range(20):
        await stage.ask(f"{n}")
    (first,) = await batch(stage)

    first_turn_done(stage, first, 10)

    assert len(await batch(stage)) == 2


async def test_if_all_would_fit_they_enter_as_soon_as_one_has_told_its_size():
    stage = Stage(tokens=200)
    for n in range(20):
        await stage.ask(f"{n}")
    (first,) = await batch(stage)

    first_turn_done(stage, first, 10)

    assert len(await batch(stage)) == 19


async def test_an_announced_size_is_as_good():
    stage = Stage(tokens=200)
    await stage.enter("0")
    stage.kind("some").announced_prompt.learn(10)

    for n in range(1, 20):
        await stage.enter(f"{n}")


async def test_all_have_to_fit_with_growth_of_all_that_one_told_and_not_only_of_what_none_shares():
    """A prefix that all share may be most of a first prompt: that little is their own tells nothing of growth."""
    stage = Stage(tokens=1000, admit_turns=3, pause_turns=1)
    kind = stage.kind("some")
    kind.given_prefix = 900
    for n in range(8):
        await stage.ask(f"{n}")
    (first,) = await batch(stage)

    kind.announced_prompt.learn(901)
    stage.admission.look_again()

    assert stage.active() == [first.name]


async def test_agents_that_begin_with_a_line_are_trusted_to_grow():
    stage = Stage(tokens=20_000, admit_turns=3, pause_turns=1)
    for n in range(20):
        await stage.ask(f"{n}")
    await batch(stage)

    stage.kind("some").announced_prompt.learn(10)
    stage.admission.look_again()

    assert stage.active() == ["0"]


async def test_without_a_token_budget_there_is_nothing_to_guess():
    stage = Stage(agents=50)

    for n in range(20):
        await stage.enter(f"{n}")


async def test_an_agent_that_told_its_size_enters_at_once():
    stage = Stage(tokens=1000)
    await stage.enter("cold")
    await stage.waits("also cold")

    await stage.enter("of known size", tokens=100)


async def test_each_kind_starts_slowly_for_itself_and_does_not_hold_up_the_others():
    stage = Stage(tokens=1000, passing_limit_s=0)
    await stage.enter("a1", kind="a")
    await stage.waits("a2", kind="a")

    await stage.enter("b1", kind="b")
    await stage.waits("b2", kind="b")

    assert "first turns of kind 'a'" in stage.admission.waiting()[0].reason


async def test_an_agent_that_leaves_before_its_first_turn_lets_the_next_one_in():
    stage = Stage(tokens=1000)
    first = await stage.enter("first")
    await stage.waits("second")
    await stage.waits("third")

    stage.finish(first)

    assert "second" in stage.active()


async def test_a_turn_that_was_only_a_pause_point_tells_nothing():
    stage = Stage(tokens=1000)
    first = await stage.turning("first")
    await stage.waits("second")

    stage.admission.end_turn(first, counts=False)

    assert stage.active() == ["first"]


async def test_a_first_turn_that_was_cancelled_before_it_began_tells_nothing():
    stage = Stage(agents=2)
    first = await stage.enter("first", tokens=1)
    big = await stage.turning("big", tokens=2, kind="other")
    stage.resize(agents=1)
    turn = await stage.try_begin(first)

    stage.admission.finish(big)
    turn.cancel()
    await stage.waits("second")

    assert first.running == 0
    assert not first.warm
    assert stage.kind("some").first_turns == 0
