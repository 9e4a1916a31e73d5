"""How much an agent is expected to grow in a turn: as its kind did, and by a share of itself while that is unknown."""

from __future__ import annotations

import pytest
from admission.stage import Stage

from concur_agents.place import GROWTH_PRIOR


async def test_an_unknown_kind_grows_by_a_share_of_its_private_context():
    stage = Stage(tokens=10_000)
    stage.kind("some").given_prefix = 100

    await stage.enter("a", tokens=400)
    await stage.enter("b", kind="other", tokens=600)

    assert stage.admission.view().growth_tokens == pytest.approx(GROWTH_PRIOR * (300 + 600))


async def test_a_kind_that_was_seen_to_stay_as_it_is_grows_by_nothing():
    stage = Stage(tokens=10_000)
    stage.kind("some").growth.learn(0)

    await stage.enter("a", tokens=400)

    assert stage.admission.view().growth_tokens == 0


async def test_a_guess_gives_way_to_what_was_seen():
    stage = Stage(tokens=10_000)
    a = await stage.turning("a", tokens=300)
    assert stage.admission.view().growth_tokens == pytest.approx(GROWTH_PRIOR * 300)

    stage.kind("some").growth.learn(20)
    stage.end(a, 320)

    assert stage.admission.view().growth_tokens == 20


async def test_an_agent_of_unknown_size_is_not_guessed_to_grow():
    stage = Stage(tokens=10_000)

    await stage.enter("a")

    assert stage.admission.view().growth_tokens == 0


async def test_a_batch_of_an_unknown_kind_does_not_come_in_before_it_has_shown_its_growth():
    stage = Stage(tokens=1000, admit_turns=3)
    stage.kind("some").first_prompt.learn(100)

    places = [(await stage.ask(f"{n}"))[0] for n in range(8)]

    assert len(stage.active()) == 5  # each weighs 100 + 3 · 33
    stage.kind("some").growth.learn(0)
    for place in places[:5]:
        await stage.begin(place)
    assert len(stage.active()) == 8
