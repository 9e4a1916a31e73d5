"""The share of the cache that is filled: cut by losses and refusals, and taken back with care."""

from __future__ import annotations

import pytest
from controller_views import CAPACITY, View, weighed

from concur_agents.control.share import (
    CUT_PER_LOSS,
    DEEPEST_CUT,
    LOWEST_SHARE,
    REFUSAL_CUT,
    SETTLING_ROUNDS,
    SHARE,
    Share,
)

CUT = 1 - CUT_PER_LOSS / 3
"""The cut for a loss of a third, which these agents have."""


def shares(pools, engine=None):
    """The share after each look."""
    share, values = Share(), []
    for pool in pools:
        share.see(pool, engine or View(), CAPACITY)
        values.append(share.value)
    return values


def test_agents_that_lose_what_they_had_cost_a_cut_for_each_verdict():
    lost = [weighed(turns=100 * n, reusable_tokens=60_000 * n, lost_tokens=20_000 * n) for n in range(4)]

    assert shares(lost) == pytest.approx([SHARE, SHARE * CUT, SHARE * CUT**2, SHARE * CUT**3])


def test_the_deeper_the_loss_the_deeper_the_cut_down_to_a_quarter():
    for lost, factor in ((6_600, 1 - CUT_PER_LOSS * 0.11), (30_000, DEEPEST_CUT), (60_000, DEEPEST_CUT)):
        looks = [weighed(), weighed(turns=9, reusable_tokens=60_000, lost_tokens=lost)]

        assert shares(looks)[-1] == pytest.approx(SHARE * factor)


def test_after_a_cut_nothing_is_judged_until_each_agent_has_had_two_turns():
    lost = [weighed(turns=n, reusable_tokens=60_000 * n, lost_tokens=20_000 * n) for n in range(12)]
    first, second = 1, 1 + int(SETTLING_ROUNDS) * 4 + 1

    assert shares(lost) == pytest.approx(
        first * [SHARE] + (second - first - 1) * [SHARE * CUT] + (13 - second) * [SHARE * CUT**2]
    )


def test_what_was_lost_while_a_cut_took_effect_is_not_held_against_the_time_after():
    looks = [
        weighed(turns=0),
        weighed(turns=1, reusable_tokens=60_000, lost_tokens=20_000),
        weighed(turns=8, reusable_tokens=160_000, lost_tokens=100_000),
        weighed(turns=9, reusable_tokens=170_000, lost_tokens=100_000),
        weighed(turns=20, reusable_tokens=240_000, lost_tokens=104_500),
    ]

    assert shares(looks)[-1] == pytest.approx(SHARE * CUT)


def test_paused_agents_have_their_turns_to_come_too():
    lost = [weighed(paused=4, turns=n, reusable_tokens=60_000 * n, lost_tokens=20_000 * n) for n in range(17)]

    assert shares(lost)[-1] == pytest.approx(SHARE * CUT)


def test_a_few_turns_are_no_evidence():
    few = [weighed(reusable_tokens=1_000 * n, lost_tokens=1_000 * n) for n in range(40)]

    assert set(shares(few)) == {SHARE}


def test_what_a_resumed_agent_reads_again_is_no_loss():
    """It is in `recomputed_tokens`, not in `lost_tokens`: it was given up on purpose."""
    resumed = [weighed(reusable_tokens=60_000 * n, recomputed_tokens=30_000 * n) for n in range(9)]

    assert set(shares(resumed)) == {SHARE}


def test_a_share_that_was_cut_grows_back_and_not_beyond():
    pools = [weighed(turns=100 * n, reusable_tokens=60_000 * n, lost_tokens=min(n, 3) * 20_000) for n in range(60)]

    values = shares(pools)

    assert min(values) == pytest.approx(SHARE * CUT**3)
    assert values[-1] == pytest.approx(SHARE)
    assert values[3:] == sorted(values[3:])


def test_a_middling_loss_moves_nothing():
    pools = [weighed(reusable_tokens=60_000 * n, lost_tokens=4_200 * n) for n in range(20)]

    assert set(shares(pools)) == {SHARE}


def test_however_much_is_lost_a_part_of_the_cache_is_left():
    lost = [weighed(turns=100 * n, reusable_tokens=60_000 * n, lost_tokens=60_000 * n) for n in range(99)]

    assert shares(lost)[-1] == LOWEST_SHARE


# ---------------------------------------------------------------------- no cached tokens in the answers


def untold(n, **changes):
    """Agents that have expected 60,000 of 80,000 prompt tokens to be cached in each of n looks, none of which told."""
    return weighed(**{"turns": 100 * n, "prompt_tokens": 80_000 * n, "kept_tokens": 60_000 * n} | changes)


def test_without_cached_tokens_the_servers_own_hits_are_held_against_what_was_to_be_expected():
    assert shares([untold(n) for n in range(3)], View(hit_rate=0.75)) == pytest.approx(3 * [SHARE])
    assert shares([untold(n) for n in range(3)], View(hit_rate=0.5)) == pytest.approx(
        [SHARE, SHARE * CUT, SHARE * CUT**2]
    )


def test_hits_beyond_what_was_expected_are_no_loss_below_nothing():
    share = Share()
    for n in range(3):
        share.see(untold(n), View(hit_rate=1.0), CAPACITY)

    assert share.loss == 0


def test_each_window_weighs_by_the_prompts_it_saw():
    share = Share()
    share.see(untold(0), View(), CAPACITY)
    share.see(weighed(turns=1, prompt_tokens=60_000, kept_tokens=45_000), View(hit_rate=0.75), CAPACITY)
    share.see(weighed(turns=2, prompt_tokens=80_000, kept_tokens=60_000), View(hit_rate=0.0), CAPACITY)

    assert share.loss == pytest.approx(1 - 45_000 / 60_000)


def test_a_window_without_a_hit_rate_accuses_nobody():
    assert set(shares([untold(n) for n in range(9)], View(hit_rate=None))) == {SHARE}


@pytest.mark.parametrize("part", [10_000, 60_000], ids=["of some of them", "of all"])
def test_where_agents_tell_their_cached_tokens_foreign_misses_say_nothing(part):
    told = [untold(n, reusable_tokens=part * n) for n in range(9)]

    assert set(shares(told, View(hit_rate=0.1))) == {SHARE}


# ---------------------------------------------------------------------- refusals


def test_a_refused_call_is_a_cut_without_further_evidence():
    assert shares([weighed(), weighed(refusals=1)]) == pytest.approx([SHARE, SHARE * REFUSAL_CUT])


def test_a_burst_of_refusals_is_one_cut():
    burst = [weighed(), *(weighed(turns=n, refusals=7 * n) for n in range(1, 8))]

    assert shares(burst)[-1] == pytest.approx(SHARE * REFUSAL_CUT)


def test_refusals_that_go_on_are_cut_again_and_old_ones_are_not():
    looks = [weighed(turns=100 * n, refusals=n) for n in range(4)]

    assert shares(looks) == pytest.approx([SHARE * REFUSAL_CUT**n for n in range(4)])
    assert shares([*looks[:2], *(weighed(turns=100 * n, refusals=1) for n in range(2, 9))])[-1] == pytest.approx(
        SHARE * REFUSAL_CUT
    )
