"""What the active agents weigh: the prefix that a kind shares is billed once, while any of them is active."""

from __future__ import annotations

import pytest
from admission.stage import Stage

from concur_agents import lines


async def test_the_shared_prefix_is_billed_once_while_any_of_the_kind_is_active():
    stage = Stage()
    stage.resize()
    stage.kind("some").given_prefix = 100

    a, b = [await stage.enter(name, tokens=150) for name in "ab"]
    other = await stage.enter("other", kind="other", tokens=30)

    assert stage.admission.working_set == 100 + 50 + 50 + 30
    stage.finish(a)
    assert stage.admission.working_set == 100 + 50 + 30
    stage.finish(b)
    assert stage.admission.working_set == 30
    stage.finish(other)
    assert stage.admission.working_set == 0


async def test_the_first_of_a_kind_needs_room_for_the_prefix_and_the_next_only_for_its_own():
    stage = Stage(tokens=1000)
    stage.kind("some").given_prefix = 500
    await stage.enter("other", kind="other", tokens=450)

    first = await stage.waits("first", tokens=600)
    stage.resize(tokens=1050)
    assert stage.active() == ["other", "first"]
    stage.resize(tokens=1100)
    await stage.waits("too big", tokens=551)
    await stage.enter("next", tokens=550)

    stage.finish(first)


async def test_an_agent_smaller_than_its_prefix_still_brings_the_whole_prefix():
    stage = Stage(tokens=1000)
    stage.kind("some").given_prefix = 500
    await stage.enter("other", kind="other", tokens=600)

    await stage.waits("small", tokens=10)

    assert stage.admission.working_set == 600


async def test_a_prefix_that_turns_out_smaller_lets_nobody_in_while_it_is_counted_anew():
    stage = Stage(tokens=6000)
    kind = stage.kind("some")
    kind.learned_prefix = 1000
    for n, tokens in enumerate([100] + 10 * [1500]):
        await stage.turning(f"{n}", tokens=tokens)
    assert stage.admission.working_set == 1000 + 10 * 500
    await stage.waits("waiting", kind="other", tokens=700)

    kind.learned_prefix = 0
    stage.admission.shared_prefix_changed(kind, 1000)

    stage.admission.check()
    assert stage.admission.working_set == 100 + 10 * 1500
    assert "waiting" not in stage.active()


async def test_a_prefix_that_turns_out_larger_makes_room():
    stage = Stage(tokens=1000)
    kind = stage.kind("some")
    for name in "ab":
        await stage.turning(name, tokens=400)
    await stage.waits("c", tokens=400)
    assert stage.admission.working_set == 800

    kind.learned_prefix = 300
    stage.admission.shared_prefix_changed(kind, 0)

    assert stage.active() == ["a", "b", "c"]
    assert stage.admission.working_set == 300 + 3 * 100


async def test_a_prefix_learned_before_an_agents_first_turn_counts_from_that_turn():
    stage = Stage(tokens=10_000)
    kind = stage.kind("some")
    resting = await stage.enter("resting", tokens=400)
    await stage.turning("running", tokens=400)
    kind.learned_prefix = 300
    stage.admission.shared_prefix_changed(kind, 0)

    await stage.begin(resting)

    assert stage.admission.working_set == 300 + 2 * 100


async def test_a_prefix_of_a_kind_without_active_agents_costs_nothing():
    stage = Stage(tokens=1000)
    kind = stage.kind("some")

    kind.learned_prefix = 300
    stage.admission.shared_prefix_changed(kind, 0)

    assert stage.admission.working_set == 0


async def test_a_larger_report_of_one_agent_leaves_the_others_their_places():
    stage = Stage(tokens=1000)
    a = await stage.turning("a", tokens=400)
    b = await stage.turning("b", tokens=400)

    stage.end(a, tokens=5000)

    assert stage.active() == ["a", "b"]
    assert stage.admission.working_set == 5400
    stage.end(b)


async def test_a_smaller_report_makes_room_at_once():
    stage = Stage(tokens=1000)
    a = await stage.turning("a", tokens=900)
    await stage.waits("b", tokens=500)

    stage.admission.resize_place(a, 500, weighed=True)

    assert stage.active() == ["a", "b"]


async def test_a_new_agent_weighs_what_its_kind_is_seen_to_weigh_at_the_moment_it_enters(monkeypatch):
    monkeypatch.setattr(lines, "FIRST_BATCH", 1)
    stage = Stage(tokens=1000)
    first = await stage.turning("first")
    await stage.waits("second")

    first.kind.learn_first_turn(700, None)
    stage.end(first, tokens=700)

    assert stage.active() == ["first"]
    assert stage.admission.view().head_tokens == 700
    assert stage.admission.waiting()[0].footprint == 700


async def test_the_controller_sees_the_agents_in_aggregates():
    stage = Stage(agents=3)
    stage.kind("some").growth.learn(10)
    a = await stage.turning("a", tokens=100)
    await stage.enter("b", tokens=200)
    await stage.enter("c", tokens=300)
    await stage.waits("d", tokens=400)
    stage.end(a, tokens=150)
    stage.resize(agents=1)
    await stage.try_begin(a)

    view = stage.admission.view()

    assert (view.active, view.running, view.paused, view.queued, view.weighed) == (2, 0, 1, 1, 0)
    assert (view.working_set_tokens, view.growth_tokens, view.head_tokens) == (500, 20, 150)
    assert view.waiting == 2


async def test_rounding_leaves_nothing_behind():
    stage = Stage()
    stage.resize()
    places = [await stage.enter(f"{n}", tokens=n / 3) for n in range(1, 30)]

    stage.finish(*places)

    assert stage.admission.working_set == 0
    assert stage.admission.view().growth_tokens == pytest.approx(0, abs=0)
