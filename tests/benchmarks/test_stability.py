"""What is measured after a step: settling time and overshoot on made-up timelines, and a small run of each step."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from concur_agents.simulation.engine import RequestRefused
from concur_agents.simulation.virtual_time import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # its scripts import each other by their plain names
stability = pytest.importorskip("stability")
steps = pytest.importorskip("steps")

FAR = 60.0
"""Values so far apart that nothing is smoothed. [s]"""


# --- settling ---------------------------------------------------------------------------------------------------------


def test_what_never_moves_has_settled_at_once():
    assert stability.settling_s([100.0] * 60) == 0.0
    assert stability.settling_s([0.0] * 60) == 0.0


def test_it_has_settled_when_it_is_in_the_band_for_good():
    values = [40.0, 95.0, 130.0, 111.0, 109.0, 100.0, 100.0, 100.0, 100.0]  # in the band at 60 s already, then out
    assert stability.settling_s(values, every_s=FAR) == 4 * FAR


@pytest.mark.parametrize("edge", [90.0, 110.0])
def test_the_edge_of_the_band_is_in_it(edge):
    assert stability.settling_s([edge] + [100.0] * 8, every_s=FAR) == 0.0


def test_who_is_outside_in_the_last_third_has_not_settled():
    assert stability.settling_s([50.0] * 5 + [80.0] + [100.0] * 3, every_s=FAR) == 6 * FAR
    assert stability.settling_s([100.0] * 6 + [50.0, 150.0, 100.0], every_s=FAR) is None
    assert stability.settling_s([float(value) for value in range(9)], every_s=FAR) is None


def test_a_slow_swing_is_no_settling_and_a_single_turn_no_swing():
    swing = [100.0 + 30.0 * (-1) ** (second // 60) for second in range(900)]
    assert stability.settling_s(swing) is None
    turn = [100.0] * 900
    turn[800] = 200.0
    assert stability.settling_s(turn) == 0.0


def test_a_jump_is_dated_to_half_of_what_is_smoothed():
    jump = [50.0] * 200 + [100.0] * 700
    assert stability.settling_s(jump) == pytest.approx(200.0, abs=stability.SMOOTH_S / 2)


# --- overshoot, and the rest ------------------------------------------------------------------------------------------


def test_the_overshoot_is_the_most_that_the_room_was_passed_by():
    assert stability.overshoot([50.0, 130.0, 120.0], [100.0, 100.0, 100.0]) == pytest.approx(0.3)
    assert stability.overshoot([50.0, 60.0], [100.0, 50.0]) == pytest.approx(0.2)
    assert stability.overshoot([50.0, 99.0], [100.0, 100.0]) == 0.0


def samples(active, working_set):
    return [
        steps.Sample(
            time_s=500.0 + second,
            phase=1,
            active=count,
            working_set=tokens,
            room=1_000.0,
            output_tokens=7_000 + 40 * second,
            turns=90 + 4 * second,
            pauses=30 + second,
            paused_s=float(second),
        )
        for second, (count, tokens) in enumerate(zip(active, working_set, strict=True))
    ]


def test_the_figures_of_a_phase():
    active = [10] * 60 + [8, 12] * 15
    found = stability.figures("a step", "fixed:10", 0, samples(active, [900.0] * 80 + [1_200.0] * 10))
    assert found.overshoot == pytest.approx(0.2)
    assert found.over_s == 10.0
    assert found.swing_agents == pytest.approx(0.2)
    assert (
        found.swing_tokens
        == pytest.approx(stability.swing([900.0] * 20 + [1_200.0] * 10))
        == pytest.approx(0.1414, abs=1e-4)
    )
    assert found.pauses == pytest.approx(0.25)
    assert found.longest_pause_s == 89.0
    assert found.tokens_per_s == pytest.approx(40.0)
    assert found.settling_s == 0.0  # it holds a number, and this swings by turns alone


def test_a_law_that_weighs_is_judged_by_the_working_set():
    held = samples([10] * 90, [300.0] * 45 + [900.0] * 45)
    assert stability.figures("", "fixed:10", 0, held).settling_s == 0.0
    assert stability.figures("", "working-set", 0, held).settling_s == pytest.approx(45.0, abs=15.0)


def test_of_several_seeds_one_that_settled_in_the_middle_is_shown_and_the_worst_overshoot():
    one = stability.figures("a step", "one", 0, samples([10] * 90, [900.0] * 90))
    runs = [replace(one, settling_s=seconds, overshoot=(seconds or 0.0) / 100) for seconds in (None, 5.0, 30.0)]
    shown = stability.over_seeds(runs)
    assert (shown.settling_s, shown.overshoot, shown.tokens_per_s) == (30.0, 0.3, one.tokens_per_s)
    assert stability.over_seeds(runs[:2]).settling_s is None


def test_a_table_holds_each_law_against_the_best():
    one = stability.figures("a step", "one", 0, samples([10] * 90, [900.0] * 90))
    text = stability.table("a step", [one, replace(one, controller="two", tokens_per_s=30.0, settling_s=None)])
    assert "| two | – | 0% | 0 s | 0% · 0% | 25.0 of 100 | 89 s | 30 | 0.75 |" in text


# --- the load ---------------------------------------------------------------------------------------------------------

SMALL = steps.Load(agents=12, turns=(4, 8), first=(1_000, 2_000), model="qwen3-32b", hardware="h100:1")


def test_agents_are_the_same_whenever_they_are_made_and_others_with_another_seed():
    assert SMALL.agent(3) == SMALL.agent(3)
    assert SMALL.agent(3) != replace(SMALL, seed=1).agent(3)
    for before, after in pairwise(SMALL.agent(3).steps):
        assert after.kept_tokens == before.context_tokens + before.output_tokens


def test_a_late_page_is_that_of_some_seconds_ago():
    async def main():
        loop = asyncio.get_running_loop()

        async def fetch():
            return f"{loop.time():.0f}"

        page = steps.LatePage(fetch, 5.0)
        served = []
        for _ in range(8):
            served.append(await page())
            await asyncio.sleep(1.0)
        return served

    assert run(main()) == ["0", "0", "0", "0", "0", "0", "1", "2"]


@pytest.mark.parametrize("controller", ["working-set", "thunderagent", "prime-rl", "fixed:5"])
@pytest.mark.parametrize("step", list(stability.STEPS))
def test_every_step_runs_under_every_sort_of_law(step, controller):
    story = stability.STEPS[step]
    short = replace(story, phases=tuple(replace(phase, lasts_s=100.0) for phase in story.phases))
    found = stability.measure(SMALL, short, controller)
    assert [row.step for row in found] == [phase.name for phase in story.phases[1:]]
    assert all(row.tokens_per_s > 0 for row in found)


def test_the_same_load_gives_the_same_samples():
    story = steps.Story((steps.Phase("", 30.0), steps.Phase("", 30.0, agents=0.5, foreign=0.3)), late_s=3.0)
    assert steps.simulate(SMALL, story, "working-set") == steps.simulate(SMALL, story, "working-set")
    assert steps.simulate(SMALL, story, "working-set") != steps.simulate(replace(SMALL, seed=1), story, "working-set")


def test_agents_come_and_go_at_once():
    crowd = steps.Story(tuple(steps.Phase("", 5.0, agents=times) for times in (1.0, 2.0, 0.25)))
    assert [sample.active for sample in steps.simulate(SMALL, crowd, "none")] == [12] * 5 + [24] * 5 + [3] * 5


def test_foreign_requests_hold_their_share_of_the_cache(monkeypatch):
    used = []

    def look(self, gate, phase, time_s, whole=steps._Simulation._sample):
        used.append(gate.stats().usage)
        return whole(self, gate, phase, time_s)

    monkeypatch.setattr(steps._Simulation, "_sample", look)
    story = steps.Story((steps.Phase("", 20.0, foreign=0.5),))
    load = steps.Load(agents=1)
    found = steps.simulate(load, story, "none")
    assert median(used[5:]) == pytest.approx(0.5, abs=0.03)
    assert {sample.room for sample in found} == {load.profile.capacity_tokens / 2}
    told = sum(step.output_tokens for step in load.agent(0).steps[:20])
    assert 0 < found[-1].output_tokens < told  # the agent's alone


def test_an_agent_that_fails_ends_the_run_and_the_others_fail_with_it(caplog):
    too_long = replace(SMALL, turns=(2, 2), first=(200_000, 200_000))
    with pytest.raises(RequestRefused, match="token"):
        steps.simulate(too_long, steps.Story((steps.Phase("", 5.0),)), "none")
    gc.collect()
    assert caplog.messages == []  # asyncio complains of an error that nobody looked at


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--steps", "nonsense", "'nonsense' is not one of doubling"),
        ("--steps", "", "give at least one"),
        ("--controllers", "nonsense", "thunderagent"),
    ],
)
def test_the_command_refuses_a_name_that_it_does_not_know(option, value, complaint):
    refused = subprocess.run(
        [sys.executable, str(BENCHMARKS / "stability.py"), option, value],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert complaint in refused.stderr
