"""The budget may grow and shrink while places are held."""

from __future__ import annotations

from admission.stage import Stage, ended


async def test_growing_again_after_a_shrink_while_held_never_lets_in_more_than_the_budget():
    """anyio's CapacityLimiter hands out what was borrowed above the limit: 10 held, 10 → 5 → 8 let more in."""
    stage = Stage(agents=10)
    held = [await stage.enter(f"held-{n}") for n in range(10)]
    for n in range(10):
        await stage.waits(f"waiting-{n}")

    stage.resize(agents=5)
    stage.resize(agents=8)
    assert len(stage.active()) == 10
    for already_gone, place in enumerate(held[:3], start=1):
        stage.finish(place)
        assert len(stage.active()) == max(8, 10 - already_gone)
    for place in held[3:]:
        stage.finish(place)
        assert len(stage.active()) == 8


async def test_growing_lets_in_exactly_what_was_added_in_the_order_of_the_queue():
    stage = Stage(agents=1)
    await stage.enter("here")
    for name in "abcd":
        await stage.waits(name)

    stage.resize(agents=3)

    assert stage.active() == ["here", "a", "b"]


async def test_shrinking_takes_nobodys_place_before_a_turn_begins():
    stage = Stage(agents=3)
    running = await stage.turning("running", tokens=1)
    resting = await stage.enter("in a tool wait", tokens=2)
    third = await stage.enter("third", tokens=3)

    stage.resize(agents=1)

    assert stage.states(running, resting, third) == ["active"] * 3
    stage.end(running)
    assert stage.states(running) == ["active"]
    assert not (await stage.try_begin(running)).done()
    assert stage.states(running, resting, third) == ["paused", "active", "active"]


async def test_a_shrink_of_the_tokens_pauses_at_the_next_turn_and_a_growth_resumes():
    stage = Stage(tokens=1000)
    small = await stage.enter("small", tokens=400)
    await stage.turning("big", tokens=500)
    stage.resize(tokens=600)

    turn = await stage.try_begin(small)
    assert stage.states(small) == ["paused"]
    stage.resize(tokens=899)
    assert stage.states(small) == ["paused"]
    stage.resize(tokens=900)

    assert stage.states(small) == ["active"]
    await ended(turn)


async def test_a_budget_that_cannot_be_met_still_runs_one_agent():
    stage = Stage(tokens=1, pause_turns=5, admit_turns=5)
    giant = await stage.turning("giant", tokens=1_000_000)
    stage.end(giant, tokens=2_000_000)
    await stage.begin(giant)
    await stage.waits("next", tokens=1_000_000)

    stage.finish(giant)

    assert stage.active() == ["next"]


async def test_the_reserve_for_growth_keeps_newcomers_out():
    stage = Stage(tokens=1000, admit_turns=2)
    stage.kind("some").growth.learn(100)
    await stage.enter("a", tokens=300)  # weighs 300 + 2 · 100

    await stage.waits("b", tokens=301)

    await stage.enter("c", tokens=300)
