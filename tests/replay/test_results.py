from __future__ import annotations

import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.replay.results import (
    Comparison,
    EngineInfo,
    RunResult,
    percentile,
    with_speedups,
    write_json,
)
from concur_agents.replay.shape import Shape
from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.replay.workload import Workload

from .trace_strategies import patient


def run(controller, rate=10.0, **changes):
    return RunResult(
        **{
            "controller": controller,
            "makespan_s": 2.0,
            "output_tokens": 20,
            "output_tokens_per_s": rate,
            "hit_rate": 0.5,
            "prompt_tokens": 100,
            "computed_prompt_tokens": 50,
            "preemptions": 0,
            "mean_active_agents": 3.0,
            "kv_usage_mean": 0.4,
            "kv_usage_peak": 0.9,
            "p50_time_per_output_token_s": 0.01,
            "p99_time_per_output_token_s": 0.05,
            "max_wait_s": 1.5,
            "turns": 7,
        }
        | changes
    )


def comparison(*runs):
    step = TraceStep(context_tokens=10, new_input_tokens=10, output_tokens=2)
    agents = (AgentTrace(agent_id="a", steps=(step, step)),)
    return Comparison(
        engine=EngineInfo(url="http://server", model="tiny"),
        workload=Workload("t.jsonl", Shape(), agents).info(None),
        runs=runs,
    )


def test_speedup_is_the_throughput_over_that_of_none():
    none, fixed, aimd = with_speedups([run("none", 10), run("fixed:2", 25), run("aimd", 5)])

    assert (none.speedup_vs_none, fixed.speedup_vs_none, aimd.speedup_vs_none) == (1.0, 2.5, 0.5)


def test_a_run_is_compared_with_the_run_of_none_of_its_own_seed():
    runs = [
        run("none", output_tokens_per_s=10.0, seed=1),
        run("aimd", output_tokens_per_s=15.0, seed=1),
        run("none", output_tokens_per_s=20.0, seed=2),
        run("aimd", output_tokens_per_s=50.0, seed=2),
    ]

    assert [r.speedup_vs_none for r in with_speedups(runs)] == [1.0, 1.5, 1.0, 2.5]


def test_without_a_run_of_none_there_is_no_speedup():
    assert [r.speedup_vs_none for r in with_speedups([run("fixed:2"), run("aimd")])] == [None, None]


@patient
@given(st.lists(st.floats(0, 1e6), min_size=2), st.integers(1, 99))
def test_a_percentile_is_the_inclusive_one_of_the_statistics_module(values, hundredth):
    expected = statistics.quantiles(values, n=100, method="inclusive")[hundredth - 1]

    assert percentile(values, hundredth / 100) == pytest.approx(expected)


def test_the_percentile_of_one_value_is_that_value():
    assert percentile([3.0], 0.99) == 3.0


def test_the_json_has_the_names_of_the_design(tmp_path):
    path = tmp_path / "r.json"

    write_json([comparison(run("none"))], path)

    written = json.loads(path.read_text())
    assert list(written) == ["engine", "workload", "runs"]
    assert {"source", "agents", "turns", "oversubscription"} <= set(written["workload"])
    assert written["workload"]["oversubscription"] is None
    assert list(written["runs"][0])[:15] == [
        "controller",
        "makespan_s",
        "output_tokens",
        "output_tokens_per_s",
        "hit_rate",
        "prompt_tokens",
        "computed_prompt_tokens",
        "preemptions",
        "mean_active_agents",
        "kv_usage_mean",
        "kv_usage_peak",
        "p50_time_per_output_token_s",
        "p99_time_per_output_token_s",
        "max_wait_s",
        "speedup_vs_none",
    ]
    assert written["runs"][0]["speedup_vs_none"] is None


def test_several_comparisons_are_written_as_an_array(tmp_path):
    path = tmp_path / "r.json"

    write_json([comparison(run("none")), comparison(run("aimd"))], path)

    assert [one["runs"][0]["controller"] for one in json.loads(path.read_text())] == ["none", "aimd"]


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")

    write_json([comparison(run("none"))], path)

    assert json.loads(path.read_text())["runs"][0]["controller"] == "none"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_text("old")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json([comparison(run("none"))], path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
