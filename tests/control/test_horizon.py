"""How far ahead it is worth to look."""

from __future__ import annotations

import pytest
from controller_views import weighed

from concur_agents.control.horizon import LONGEST_HORIZON_TURNS, horizon_turns
from concur_agents.control.pace import Pace
from concur_agents.life_table import AHEAD_TURNS


@pytest.mark.parametrize(
    ("pace", "turns"),
    [
        (
            Pace(reads=10_000.0, writes=1_000.0, reading=0.0),
            2.5,
        ),  # 2 s of reading cost 1,000 tokens/s, a turn writes 500
        (Pace(reads=10_000.0, writes=1_000.0, reading=0.5), 5.0),  # half of what it writes others would have
        (Pace(reads=10_000.0, writes=1_000.0, reading=1.0), LONGEST_HORIZON_TURNS),
        (Pace(), LONGEST_HORIZON_TURNS),
    ],
)
def test_the_horizon_is_how_long_an_agent_has_to_run_to_be_worth_a_reading(pace, turns):
    pool = weighed(turns=10, output_tokens=5_000, active=4, working_set_tokens=50_000.0)

    assert horizon_turns(pool, pace) == pytest.approx(turns)


def test_while_nobody_has_written_anything_the_horizon_is_the_longest():
    assert horizon_turns(weighed(), Pace(reads=1.0, writes=1.0, reading=0.0)) == LONGEST_HORIZON_TURNS


def test_as_far_as_it_may_look_survivals_are_told():
    assert AHEAD_TURNS[-1] == LONGEST_HORIZON_TURNS
