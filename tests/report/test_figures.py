"""What the pictures and the sentences are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.report.bands import BANDS, FEWEST, Spread, by_band, size_bands
from concur_agents.report.headline import headline
from concur_agents.report.timelines import Scales, throughput
from concur_agents.report.words import UNKNOWN, known, milliseconds, seconds, short, time_unit

from .comparisons import agent, comparison, moment, run


def with_sizes(*sizes, controller="none"):
    agents = tuple(agent(n, size_tokens=size, turns=min(1, size)) for n, size in enumerate(sizes))
    return run(controller, agents=0).model_copy(update={"agents": agents})


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=200), st.integers(1, 3))
def test_every_agent_with_a_size_is_in_one_band(sizes, runs):
    bands = size_bands([with_sizes(*sizes)] * runs)

    assert 1 <= len(bands) <= BANDS
    for one in with_sizes(*sizes).agents:
        assert sum(one in band for band in bands) == 1


def test_bands_hold_about_equally_many():
    measured = with_sizes(*range(1000, 1100))

    assert [sum(one in band for one in measured.agents) for band in size_bands([measured])] == pytest.approx(
        [25] * 4, abs=1
    )


@pytest.mark.parametrize(("agents", "bands"), [(1, 1), (2 * FEWEST - 1, 1), (2 * FEWEST, 2), (100, BANDS)])
def test_few_agents_make_few_bands(agents, bands):
    assert len(size_bands([with_sizes(*range(1, agents + 1))])) == bands


def test_agents_of_one_size_are_one_band():
    assert len(size_bands([with_sizes(*[500] * 100)])) == 1


def test_agents_without_a_turn_have_no_size_and_no_band():
    assert size_bands([with_sizes(0, 0, 0)]) == ()
    assert size_bands([run("none", agents=0)]) == ()
    assert not any(with_sizes(0).agents[0] in band for band in size_bands([with_sizes(0, 10, 20)]))


def test_every_run_has_its_row_in_every_band_even_without_a_figure():
    runs = [("a", with_sizes(*range(1, 41))), ("b", run("b", agents=0))]

    groups = by_band(runs, lambda one: one.wait_s)

    assert [[row.run for row in group.rows] for group in groups] == [["a", "b"]] * 4
    assert all(group.rows[0].spread and group.rows[1].spread is None for group in groups)


def test_a_spread_is_in_order():
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0)
    assert Spread.of([float(n) for n in range(101)]) == Spread(101, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0)


def test_throughput_is_that_of_the_window_before():
    timeline = [moment(0, time_s=float(n), output_tokens=10 * n**2) for n in range(5)]

    assert throughput(timeline, 1.0) == [None, 10.0, 30.0, 50.0, 70.0]
    assert throughput(timeline, 2.0) == [None, 10.0, 20.0, 40.0, 60.0]
    assert throughput(timeline, 0.0) == [None, 10.0, 30.0, 50.0, 70.0]
    assert throughput([], 1.0) == []


def test_moments_of_one_instant_have_no_throughput():
    assert throughput([moment(0, time_s=1.0), moment(0, time_s=1.0)], 5.0) == [None, None]


def test_all_runs_fit_in_the_scales():
    runs = [run("none", rate=20.0), run("aimd", timeline=(moment(3, active=700, working_set_tokens=9e9),))]

    scales = Scales.of(comparison(*runs), runs)

    assert (scales.span_s, scales.tokens) == (500.0, 9e9)
    assert scales.agents > 700
    assert scales.rate >= 75.0


def test_scales_of_nothing_are_no_line():
    empty = run("none", timeline=(), makespan_s=0.0, output_tokens_per_s=0.0)

    scales = Scales.of(comparison(empty, engine={"capacity_tokens": None}), [empty])

    assert min(scales.span_s, scales.agents, scales.tokens, scales.rate) > 0


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"none": 10, "aimd": 25}, "aimd generated 2.50× the output tokens/s of no gate: done in "),
        ({"none": 10, "aimd": 7}, "No gate was the fastest: the nearest controller, aimd, came to 0.70×"),
        ({"none": 10, "aimd": 10.1}, "No controller made a difference: the fastest, aimd, came to 1.01× no gate."),
        ({"fixed:4": 10, "aimd": 15}, "The fastest was aimd: 1.50× the output tokens/s of fixed:4, the slowest."),
        ({"none": 40}, "no gate: done in 4 min 10 s, with 40 output tokens/s."),
        ({"aimd": 40}, "aimd: done in 4 min 10 s, with 40 output tokens/s."),
    ],
)
def test_the_headline_says_what_was_won_or_lost(rates, says):
    result = headline(comparison(*(run(name, rate=rate) for name, rate in rates.items()))).result

    assert result.startswith(says)


def test_the_headline_has_the_figures_of_the_fastest_gate_beside_those_of_none():
    tiles = headline(comparison(run("none", rate=10, hit_rate=0.1), run("aimd", rate=30, hit_rate=None))).tiles

    assert [tile.value for tile in tiles] == ["30", "5 min 33 s", UNKNOWN, "1,234 ms", "37 s"]
    assert tiles[2].beside == "no gate: 10%"


def test_the_headline_of_a_live_server_names_it():
    told = headline(comparison(run("none"), live=True))

    assert told.engine == "qwen3-32b at http://gpu-7:8000, vLLM 0.32.0, KV cache of 100,000 tokens"
    assert not told.simulated


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (812, "812"), (999.4, "999"), (999.6, "1.0K"), (12_345, "12K"), (999_600, "1.0M"),
        (1_974_086, "2.0M"), (99.5e6, "100M"), (2.5e9, "2.5G"),
    ],
)  # fmt: skip
def test_a_count_is_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"), (0.04, "0.0 s"), (5.24, "5.2 s"), (59.6, "60 s"), (119.4, "119 s"), (119.6, "2 min 00 s"),
        (3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"), (8217.6, "2 h 17 min"),
    ],
)  # fmt: skip
def test_a_span_is_in_the_units_that_matter(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0042, "4.2 ms"), (0.031, "31 ms"), (8.217, "8,217 ms"), (12.3, "12 s"), (4321.0, "4,321 s")]
)
def test_a_latency_is_in_milliseconds_until_it_is_many(value, text):
    assert milliseconds(value) == text


def test_an_unknown_figure_is_a_dash():
    assert known(None, "{:.2f}") == UNKNOWN
    assert known(0.0, "{:.2f}") == "0.00"


@pytest.mark.parametrize(("span", "unit"), [(100, "seconds"), (1000, "minutes"), (20_000, "hours")])
def test_an_axis_has_the_unit_of_its_length(span, unit):
    assert time_unit(span)[1] == unit
