from __future__ import annotations

import json

import pytest

from concur_agents.replay.generated import WORKLOADS, generate
from concur_agents.replay.shape import Shape
from concur_agents.replay.trace import AgentTrace, TraceError, TraceStep
from concur_agents.replay.workload import Workload


def agent(*steps, shared=0, group="g", name="a"):
    return AgentTrace(
        agent_id=name,
        prefix_group=group,
        shared_prefix_tokens=shared,
        steps=[
            TraceStep(context_tokens=context, new_input_tokens=new, output_tokens=output)
            for context, new, output in steps
        ],
    )


def test_oversubscription_is_the_sum_of_the_last_prompts_over_the_capacity():
    load = Workload("t", Shape(), (agent((10, 10, 5), (40, 25, 5)), agent((60, 60, 1))))

    assert load.info(50).oversubscription == 2.0
    assert load.info(None).oversubscription is None


def test_counts_agents_turns_and_output_tokens():
    load = Workload("t", Shape(seed=4, scale=0.5), (agent((10, 10, 5), (40, 25, 7)), agent((60, 60, 1))))

    info = load.info(None)

    assert (info.source, info.agents, info.turns, info.output_tokens) == ("t", 2, 3, 13)
    assert (info.seed, info.scale) == (4, 0.5)


def test_the_longest_call_is_prompt_and_output():
    assert Workload("t", Shape(), (agent((10, 10, 5)), agent((9, 9, 8)))).longest == 17


def test_hit_rates_lie_between_the_shared_prefix_and_all_that_is_kept():
    one = agent((100, 100, 50), (200, 50, 1), shared=40)
    info = Workload("t", Shape(), (one, one)).info(None)

    # prompts: 600; shared: 40 at the three prompts after the very first; kept besides: 150 - 40, twice
    assert info.hit_rate_floor == pytest.approx(120 / 600)
    assert info.hit_rate_ideal == pytest.approx((40 + 150 + 150) / 600)


def test_the_first_agent_of_each_group_finds_nothing():
    one, other = agent((100, 100, 1), shared=50), agent((100, 100, 1), shared=50, group="h")

    assert Workload("t", Shape(), (one, other)).info(None).hit_rate_ideal == 0.0
    assert Workload("t", Shape(), (one, one)).info(None).hit_rate_ideal == 0.25


def test_loads_a_shaped_trace_by_the_name_of_its_file(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(agent((100, 100, 10)).model_dump()) + "\n")

    load = Workload.load(str(path), Shape(scale=0.5, agents=3))

    assert load.source == "t.jsonl"
    assert [a.steps[0].context_tokens for a in load.agents] == [50, 50, 50]


def test_a_generated_workload_has_its_own_number_of_agents_or_as_many_as_are_asked_for():
    own = Workload.load("workload:no-pressure", Shape())
    five = Workload.load("workload:no-pressure", Shape(agents=5))

    assert own.source == "workload:no-pressure"
    assert len(own.agents) == WORKLOADS["no-pressure"].agents
    assert five.agents == own.agents[:5]


def test_a_generated_workload_is_seeded_and_shaped():
    plain = Workload.load("workload:swe", Shape(agents=4, seed=1))
    shaped = Workload.load("workload:swe", Shape(agents=4, seed=1, scale=0.1, max_context=4000))

    assert Workload.load("workload:swe", Shape(agents=4, seed=2)).agents != plain.agents
    assert shaped.longest <= 4000
    assert [a.agent_id for a in shaped.agents] == [a.agent_id for a in plain.agents]
    assert shaped.agents[0].steps[0].context_tokens == round(0.1 * plain.agents[0].steps[0].context_tokens)


def test_agents_that_are_cut_away_are_made_up_for_by_repeating_the_others():
    made = generate("swe", 6, 0)
    first_calls = sorted(a.steps[0].context_tokens + a.steps[0].output_tokens for a in made)

    load = Workload.load("workload:swe", Shape(agents=6, max_context=first_calls[2]))

    assert len(load.agents) == 6
    assert len({a.agent_id.partition("#")[0] for a in load.agents}) == 3


def test_agents_of_a_generated_workload_are_counted_without_those_they_spawn():
    load = Workload.load("workload:fan-out", Shape(agents=3))

    assert sum(a.parent is None for a in load.agents) == 3
    assert len(load.agents) > 3


def test_an_unknown_workload_lists_those_there_are():
    with pytest.raises(TraceError, match=r"no workload 'agents': give one of swe, .*no-pressure"):
        Workload.load("workload:agents", Shape())
