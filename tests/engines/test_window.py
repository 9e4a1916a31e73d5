"""Pages become snapshots: counters as differences over the last seconds, restarts noticed, dead gauges ignored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concur_agents.engines import EngineReading, Window

AT_START = EngineReading(
    usage=0.5,
    running=4,
    waiting=1,
    capacity_tokens=1000,
    block_size=16,
    queries=100,
    hits=50,
    preemptions=2,
    prompt_tokens=1000,
    computed_prompt_tokens=600,
    generation_tokens=300,
)


def later(reading=AT_START, **grown):
    return replace(reading, **{name: getattr(reading, name) + by for name, by in grown.items()})


def test_the_first_page_says_how_things_stand_and_nothing_of_change():
    snapshot = Window().add(7.0, [AT_START])
    assert (snapshot.time, snapshot.window_s, snapshot.restarts) == (7.0, 0.0, 0)
    assert (snapshot.usage, snapshot.running, snapshot.waiting) == (0.5, 4, 1)
    assert (snapshot.capacity_tokens, snapshot.block_size, snapshot.sleeping) == (1000, 16, False)
    assert snapshot.hit_rate is None
    assert snapshot.prompt_tokens == snapshot.generation_tokens == snapshot.preemptions == 0


def test_counters_become_differences():
    window = Window()
    window.add(0.0, [AT_START])
    snapshot = window.add(
        2.0,
        [
            later(
                queries=40,
                hits=30,
                preemptions=1,
                prompt_tokens=400,
                computed_prompt_tokens=90,
                generation_tokens=20,
            )
        ],
    )
    assert snapshot.window_s == 2.0
    assert snapshot.hit_rate == 0.75
    assert (snapshot.preemptions, snapshot.prompt_tokens) == (1, 400)
    assert (snapshot.computed_prompt_tokens, snapshot.generation_tokens) == (90, 20)


def test_a_window_without_queries_is_no_evidence_not_a_rate_of_zero():
    window = Window()
    window.add(0.0, [AT_START])
    assert window.add(1.0, [AT_START]).hit_rate is None


def test_differences_reach_back_to_the_newest_page_that_is_a_span_old():
    window = Window(span_s=5.0)
    spans = [window.add(float(t), [later(prompt_tokens=10 * t)]) for t in (0, 1, 2, 3, 4, 5, 6, 9)]
    assert [s.window_s for s in spans] == [0, 1, 2, 3, 4, 5, 5, 5]
    assert [s.prompt_tokens for s in spans] == [0, 10, 20, 30, 40, 50, 50, 50]


def test_polls_further_apart_than_the_span_are_compared_with_each_other():
    window = Window(span_s=5.0)
    spans = [window.add(t, [AT_START]).window_s for t in (0.0, 8.0, 16.0)]
    assert spans == [0.0, 8.0, 8.0]


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.01, 6.0), st.integers(0, 1000)), min_size=1, max_size=40),
    span=st.floats(0.5, 10.0),
)
def test_a_difference_is_that_between_now_and_the_start_of_the_window(steps, span):
    window, pages = Window(span_s=span), []
    time, count = 0.0, 0
    for pause, growth in steps:
        time, count = time + min(pause, 3.9 * span), count + growth
        pages.append((time, count))
        snapshot = window.add(time, [EngineReading(prompt_tokens=count)])
        old_enough = [page for page in pages if page[0] <= time - span]
        base_time, base_count = old_enough[-1] if old_enough else pages[0]
        assert (snapshot.window_s, snapshot.prompt_tokens) == (time - base_time, count - base_count)


class TestRestarts:
    def test_a_counter_that_goes_down_starts_the_window_anew(self):
        window = Window()
        window.add(0.0, [AT_START])
        window.add(1.0, [later(prompt_tokens=50)])
        restarted = window.add(2.0, [EngineReading(prompt_tokens=10, queries=5, hits=0)])
        assert (restarted.restarts, restarted.window_s, restarted.prompt_tokens) == (1, 0.0, 0)
        assert restarted.hit_rate is None
        after = window.add(3.0, [EngineReading(prompt_tokens=30, queries=25, hits=5)])
        assert (after.restarts, after.window_s, after.prompt_tokens, after.hit_rate) == (1, 1.0, 20, 0.25)

    @pytest.mark.parametrize("counter", ["queries", "hits", "preemptions", "prompt_tokens", "generation_tokens"])
    def test_any_counter_tells(self, counter):
        window = Window()
        window.add(0.0, [AT_START])
        assert window.add(1.0, [later(**{counter: -1})]).restarts == 1

    def test_computed_tokens_may_go_down_where_they_are_worked_out(self):
        window = Window()
        window.add(0.0, [AT_START])
        snapshot = window.add(1.0, [later(computed_prompt_tokens=-30)])
        assert (snapshot.restarts, snapshot.computed_prompt_tokens) == (0, 0)

    def test_gauges_may_go_down(self):
        window = Window()
        window.add(0.0, [AT_START])
        assert window.add(1.0, [replace(AT_START, usage=0.1, running=0, waiting=0)]).restarts == 0

    def test_one_engine_that_restarts_is_the_server_restarting(self):
        window = Window()
        window.add(0.0, [AT_START, replace(AT_START, engine="1")])
        snapshot = window.add(1.0, [later(prompt_tokens=70), EngineReading(engine="1", prompt_tokens=0)])
        assert (snapshot.restarts, snapshot.prompt_tokens) == (1, 0)

    def test_a_restart_is_noticed_after_an_outage_too(self):
        window = Window()
        window.add(0.0, [AT_START])
        snapshot = window.add(3600.0, [EngineReading(prompt_tokens=1)])
        assert (snapshot.restarts, snapshot.window_s) == (1, 0.0)


class TestSilence:
    def test_after_a_long_silence_what_was_before_says_nothing(self):
        window = Window(span_s=5.0)
        window.add(0.0, [AT_START])
        snapshot = window.add(20.1, [later(prompt_tokens=9, queries=9)])
        assert (snapshot.window_s, snapshot.prompt_tokens, snapshot.hit_rate) == (0.0, 0, None)
        assert snapshot.restarts == 0

    def test_a_few_missed_polls_are_bridged(self):
        window = Window(span_s=5.0)
        window.add(0.0, [AT_START])
        assert window.add(20.0, [later(prompt_tokens=9)]).prompt_tokens == 9

    def test_a_clock_that_went_back_starts_the_window_anew(self):
        window = Window()
        window.add(100.0, [AT_START])
        snapshot = window.add(0.0, [later(prompt_tokens=9)])
        assert (snapshot.window_s, snapshot.prompt_tokens, snapshot.restarts) == (0.0, 0, 0)


class TestSeveralEngines:
    def test_counters_and_queues_are_summed_usage_is_the_worst(self):
        one, two = AT_START, replace(AT_START, engine="1", usage=0.9, sleeping=True)
        window = Window()
        window.add(0.0, [one, two])
        snapshot = window.add(
            1.0, [later(one, queries=10, hits=0, prompt_tokens=5), later(two, queries=30, hits=30, prompt_tokens=7)]
        )
        assert (snapshot.usage, snapshot.running, snapshot.waiting) == (0.9, 8, 2)
        assert (snapshot.capacity_tokens, snapshot.prompt_tokens) == (2000, 12)
        assert snapshot.sleeping
        assert snapshot.hit_rate == 0.75
        assert [(e.engine, e.usage, e.hit_rate) for e in snapshot.engines] == [("0", 0.5, 0.0), ("1", 0.9, 1.0)]

    def test_an_engine_that_appears_counts_from_its_first_page_on(self):
        window = Window()
        window.add(0.0, [AT_START])
        new = EngineReading(engine="1", prompt_tokens=5000)
        assert window.add(1.0, [AT_START, new]).prompt_tokens == 0
        assert window.add(2.0, [AT_START, later(new, prompt_tokens=8)]).prompt_tokens == 8

    def test_an_engine_that_disappears_is_gone_and_no_restart(self):
        window = Window()
        window.add(0.0, [AT_START, replace(AT_START, engine="1")])
        snapshot = window.add(1.0, [AT_START])
        assert ([e.engine for e in snapshot.engines], snapshot.running, snapshot.restarts) == (["0"], 4, 0)

    def test_an_engine_that_comes_back_with_less_has_restarted(self):
        window = Window()
        window.add(0.0, [AT_START, replace(AT_START, engine="1")])
        window.add(1.0, [AT_START])
        assert window.add(2.0, [AT_START, EngineReading(engine="1", prompt_tokens=3)]).restarts == 1

    def test_a_page_without_engines_says_nothing(self):
        snapshot = Window().add(0.0, [])
        assert (snapshot.engines, snapshot.usage, snapshot.running, snapshot.sleeping) == ((), None, None, False)


class TestHitRateGauge:
    """vLLM ≤ 0.8 may have nothing but a gauge of its own."""

    def test_it_is_used_where_there_are_no_counters_and_prompts_were_read(self):
        reading = EngineReading(hit_rate_gauge=0.8, prompt_tokens=100)
        window = Window()
        assert window.add(0.0, [reading]).hit_rate is None
        snapshot = window.add(1.0, [later(reading, prompt_tokens=10)])
        assert (snapshot.hit_rate, snapshot.engines[0].hit_rate) == (0.8, 0.8)
        assert window.add(7.0, [later(reading, prompt_tokens=10)]).hit_rate is None

    def test_counters_win_over_it(self):
        window = Window()
        window.add(0.0, [replace(AT_START, hit_rate_gauge=0.9)])
        grown = later(replace(AT_START, hit_rate_gauge=0.9), queries=10, hits=1, prompt_tokens=10)
        assert window.add(1.0, [grown]).hit_rate == 0.1
        assert window.add(9.0, [later(grown, prompt_tokens=5)]).hit_rate is None


class TestStaleGauges:
    """After all requests were aborted at once, vLLM's gauges stand until the next engine step (vllm#29928)."""

    DEAD = replace(AT_START, usage=0.99, running=30, waiting=9)

    @staticmethod
    def state(snapshot):
        return snapshot.usage, snapshot.running, snapshot.waiting

    def test_with_nothing_of_ours_there_and_nothing_moving_they_are_zero(self):
        window = Window()
        window.add(0.0, [self.DEAD], ours_in_flight=30)
        snapshot = window.add(1.0, [self.DEAD], ours_in_flight=0)
        assert self.state(snapshot) == (0, 0, 0)
        assert self.state(snapshot.engines[0]) == (0, 0, 0)
        assert snapshot.capacity_tokens == 1000

    def test_they_stay_zero_as_long_as_nothing_moves(self):
        window = Window()
        for time in (0.0, 1.0, 2.0, 900.0):
            snapshot = window.add(time, [self.DEAD], ours_in_flight=0)
        assert self.state(snapshot) == (0, 0, 0)

    @pytest.mark.parametrize("ours", [1, None])
    def test_they_are_believed_while_something_of_ours_is_or_may_be_there(self, ours):
        window = Window()
        window.add(0.0, [self.DEAD], ours_in_flight=ours)
        assert self.state(window.add(1.0, [self.DEAD], ours_in_flight=ours)) == (0.99, 30, 9)

    def test_a_first_page_is_believed(self):
        assert self.state(Window().add(0.0, [self.DEAD], ours_in_flight=0)) == (0.99, 30, 9)

    @pytest.mark.parametrize(
        "moved", [{"prompt_tokens": 1}, {"generation_tokens": 1}, {"queries": 1}, {"usage": 0.001}]
    )
    def test_they_are_believed_while_others_keep_the_engine_moving(self, moved):
        window = Window()
        window.add(0.0, [self.DEAD], ours_in_flight=0)
        snapshot = window.add(1.0, [later(self.DEAD, **moved)], ours_in_flight=0)
        assert (snapshot.running, snapshot.waiting) == (30, 9)

    def test_they_are_believed_where_no_counter_could_show_a_movement(self):
        reading = EngineReading(usage=0.99, running=30, waiting=9)
        window = Window()
        window.add(0.0, [reading], ours_in_flight=0)
        assert self.state(window.add(1.0, [reading], ours_in_flight=0)) == (0.99, 30, 9)

    def test_what_was_not_said_stays_unsaid(self):
        reading = EngineReading(usage=0.99, prompt_tokens=5)
        window = Window()
        window.add(0.0, [reading], ours_in_flight=0)
        assert self.state(window.add(1.0, [reading], ours_in_flight=0)) == (0, None, None)


@pytest.mark.parametrize("span", [0.0, -1.0, float("nan")])
def test_a_window_of_no_length_is_refused(span):
    with pytest.raises(ValueError, match="span_s above 0"):
        Window(span_s=span)
