"""What is learned of how long agents live, and the chances that follow from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.life_table import AHEAD_TURNS, ALIKE_TURNS, MEMORY_TURNS, MOST_ENDING, LifeTable


def lived(table, turns):
    """One agent that took so many turns and ended."""
    for age in range(turns):
        table.turn_ended(age)
    table.life_ended(turns)


def learned(*lives):
    table = LifeTable()
    for turns in lives:
        lived(table, turns)
    return table


def after(turns, chances):
    """The chance to live so many turns more."""
    return chances[AHEAD_TURNS.index(turns)]


def test_while_nobody_has_ended_everybody_lives_on():
    table = LifeTable()
    for age in range(50):
        table.turn_ended(age)

    assert table.survival(0) == table.survival(49) == (1.0, 1.0, 1.0)


def test_agents_that_all_end_after_the_same_turns_live_on_until_then_and_no_further():
    table = learned(*100 * [8])

    assert after(4, table.survival(0)) > 0.95
    assert after(2, table.survival(4)) > 0.9
    assert after(2, table.survival(6)) < 0.5  # 6 and 7 lie in one band: half of those who take these turns end
    assert after(8, table.survival(0)) < 0.3


def test_of_a_batch_that_began_together_the_young_are_not_taken_for_the_old():
    """A single share for all ages, an eighth a turn, would leave a third of the young after eight turns."""
    table = learned(*100 * [16])

    assert after(8, table.survival(0)) > 0.9
    assert (1 - 1 / 16) ** 8 < 0.6


def test_where_ends_come_at_any_age_alike_so_do_the_chances():
    table = LifeTable()
    for _ in range(100):
        for age in range(40):
            for _ in range(10):
                table.turn_ended(age)
            table.life_ended(age + 1)
    # Counted like this every age is taken as often as any other, and a tenth ends with each turn.

    for age in (0, 3, 10, 20):
        assert table.survival(age) == pytest.approx([0.9**turns for turns in AHEAD_TURNS], rel=0.02)


def test_who_still_lives_counts_as_much_as_who_has_ended():
    """Of 100 agents ten ended after their first turn; the others are past it and go on."""
    table = LifeTable()
    for agent in range(100):
        table.turn_ended(0)
        if agent < 10:
            table.life_ended(1)
        else:
            for age in range(1, 6):
                table.turn_ended(age)

    assert after(2, table.survival(0)) == pytest.approx(0.9, abs=0.02)
    assert after(2, table.survival(1)) == pytest.approx(1.0, abs=0.01)


def test_the_first_end_at_an_age_does_not_count_for_certain():
    table = learned(3)
    ending = (1 + ALIKE_TURNS / 3) / (1 + ALIKE_TURNS)  # one of one, and four turns of which a third ends

    assert after(2, table.survival(2)) == pytest.approx((1 - ending) * (1 - 1 / 3))


def test_ages_beyond_all_that_were_seen_are_taken_for_any():
    table = learned(*10 * [4])

    assert after(2, table.survival(1000)) == pytest.approx((1 - 1 / 4) ** 2)


def test_what_a_turn_teaches_is_seen_within_a_few():
    table = learned(1)
    before = table.survival(0)

    for _ in range(20):
        table.turn_ended(0)

    assert after(2, table.survival(0)) > after(2, before)


def test_lives_that_were_otherwise_are_forgotten():
    table = learned(*1000 * [2])

    for _ in range(10 * MEMORY_TURNS // 16):
        lived(table, 16)

    assert after(8, table.survival(0)) > 0.9


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=200), st.integers(0, 5000))
def test_whatever_is_learned_chances_are_chances_and_fall(seen, age):
    table = LifeTable()
    for ended, at in seen:
        table.turn_ended(at)
        if ended:
            table.life_ended(at + 1)

    chances = table.survival(age)

    assert list(chances) == sorted(chances, reverse=True)
    assert all(
        (1 - MOST_ENDING) ** turns * 0.999 <= chance <= 1 for turns, chance in zip(AHEAD_TURNS, chances, strict=True)
    )
