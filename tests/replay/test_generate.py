from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.replay.family import families
from concur_agents.replay.generated import WORKLOADS, generate
from concur_agents.replay.generated.draw import Mixture, Spread
from concur_agents.replay.generated.profiles import SEARCH, SWE
from concur_agents.replay.trace import AgentTrace, TraceError, read_traces

from .trace_strategies import patient

names = st.sampled_from(list(WORKLOADS))
seeds = st.integers(-5, 2**40)
MANY = 400


def quantile(values, share):
    return sorted(values)[int(share * len(values))]


def last(agents):
    return [agent.steps[-1].context_tokens for agent in agents]


def steps(agents):
    return [len(agent.steps) for agent in agents]


def outputs(agents):
    return [step.output_tokens for agent in agents for step in agent.steps]


def waits(agents):
    return [
        step.tool_seconds for agent in agents for step in agent.steps[:-1] if step.tool_seconds is not None
    ]  # after the last call nobody waits


@patient
@given(names, st.integers(1, 5), st.integers(0, 5), seeds)
def test_the_first_agents_are_the_same_however_many_there_are(name, count, more, seed):
    few, many = generate(name, count, seed), generate(name, count + more, seed)

    assert many[: len(few)] == few
    assert len(families(few)) == count


@patient
@given(names, seeds)
def test_an_agent_keeps_all_that_was_there_and_is_a_valid_trace(name, seed):
    for agent in generate(name, 3, seed):
        assert AgentTrace.model_validate_json(agent.model_dump_json()) == agent
        assert agent.steps[0].kept_tokens == 0
        assert agent.shared_prefix_tokens <= agent.steps[0].context_tokens
        for before, step in pairwise(agent.steps):
            assert step.kept_tokens == before.context_tokens + before.output_tokens
            assert step.new_input_tokens >= 1
        assert all(step.output_tokens >= 1 for step in agent.steps)
        assert all(step.context_tokens + step.output_tokens <= 131_072 for step in agent.steps)


@patient
@given(names, seeds)
def test_names_differ_and_say_the_workload(name, seed):
    made = generate(name, 4, seed)

    assert len({agent.agent_id for agent in made}) == len(made)
    assert all(agent.agent_id.startswith(f"{name}-") for agent in made)
    assert {agent.source for agent in made} == {f"workload:{name}"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_another_seed_makes_other_agents(name):
    assert generate(name, 2, 0) != generate(name, 2, 1)
    assert generate(name, 2, 0)[0].steps != generate(name, 2, 0)[1].steps


def test_a_seed_makes_the_same_agents_in_every_version():
    """The figures are from the first version: whoever changes them changes what people compared."""
    agent = generate("swe", 1, 0)[0]

    assert len(agent.steps) == 25
    assert agent.steps[-1].context_tokens == 38834


@pytest.mark.parametrize("name", WORKLOADS)
def test_without_a_number_a_workload_has_its_own(name):
    assert len(families(generate(name, None, 0))) == WORKLOADS[name].agents


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coding_agents_are_as_agentcgroup_measured_them(seed):
    made = generate("swe", MANY, seed)

    assert quantile(steps(made), 0.5) == pytest.approx(45, rel=0.12)
    assert quantile(steps(made), 0.9) == pytest.approx(92, rel=0.15)
    assert max(steps(made)) <= 145
    assert quantile(last(made), 0.5) == pytest.approx(54_700, rel=0.12)
    assert quantile(last(made), 0.9) == pytest.approx(84_300, rel=0.15)
    assert max(last(made)) <= 131_072
    assert quantile(outputs(made), 0.5) == pytest.approx(144, rel=0.05)
    assert quantile(waits(made), 0.5) == pytest.approx(0.04, abs=0.01)
    assert quantile(waits(made), 0.9) == pytest.approx(9.5, rel=0.1)
    assert made[0].shared_prefix_tokens == 13_214


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_chats_with_tools_are_as_tau_bench_has_them(seed):
    made = generate("chat-tools", MANY, seed)

    assert quantile(steps(made), 0.5) == pytest.approx(11, abs=1)
    assert quantile(steps(made), 0.9) == pytest.approx(20, abs=2)
    assert max(steps(made)) <= 30
    assert max(last(made)) <= 1.3 * 8_300
    assert quantile(last(made), 0.5) == pytest.approx(3_400, rel=0.12)
    assert quantile(last(made), 0.9) == pytest.approx(5_300, rel=0.12)
    assert quantile(outputs(made), 0.5) == pytest.approx(54, rel=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_agents_make_as_many_calls_as_webexplorer_and_wait_as_long_as_a_search_takes(seed):
    made = generate("search", MANY, seed)

    assert statistics.mean(steps(made)) == pytest.approx(16, rel=0.1)
    assert max(steps(made)) <= 100
    assert quantile(waits(made), 0.5) == pytest.approx(1.2, rel=0.05)
    assert quantile(waits(made), 0.95) == pytest.approx(3.5, rel=0.1)


def test_long_tools_take_half_a_minute_to_two_minutes_and_change_nothing_else():
    swe, long = generate("swe", 100, 3), generate("long-tools", 100, 3)

    running = [wait for wait in waits(long) if wait > 1]
    assert len(running) == pytest.approx(len(waits(long)) / 2, rel=0.1)
    assert quantile(running, 0.05) == pytest.approx(30, rel=0.1)
    assert quantile(running, 0.95) == pytest.approx(120, rel=0.1)
    assert tokens(long) == tokens(swe)


def tokens(agents):
    return [[(step.context_tokens, step.output_tokens) for step in agent.steps] for agent in agents]


def test_bursts_are_the_coding_agents_at_other_times():
    swe, burst = generate("swe", 100, 3), generate("burst", 100, 3)

    assert [agent.steps for agent in burst] == [agent.steps for agent in swe]
    assert all(agent.start_seconds == 0 for agent in swe)
    assert burst[0].start_seconds == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agents_come_in_bursts(seed):
    starts = [agent.start_seconds for agent in generate("burst", 2000, seed)]
    gaps = [later - earlier for earlier, later in pairwise(starts)]

    assert min(gaps) >= 0
    assert statistics.mean(gaps) == pytest.approx(4, rel=0.3)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(4, rel=0.3)
    assert quantile(gaps, 0.5) < 0.1


@patient
@given(st.integers(1, 4), seeds)
def test_a_lead_spawns_rounds_of_subagents_and_reads_their_reports(count, seed):
    for lead, *subagents in families(generate("fan-out", count, seed)):
        named = {agent.agent_id: agent for agent in subagents}
        rounds = [(n, step) for n, step in enumerate(lead.steps) if step.spawns]
        assert lead.parent is None
        assert 1 <= len(rounds) <= 3
        for number, step in rounds:
            assert 3 <= len(step.spawns) <= 5
            assert step.tool_seconds is None
            reports = sum(named[name].steps[-1].output_tokens for name in step.spawns)
            assert lead.steps[number + 1].new_input_tokens == reports
        assert [name for _, step in rounds for name in step.spawns] == list(named)
        for agent in subagents:
            assert agent.parent == lead.agent_id
            assert agent.prefix_group != lead.prefix_group
            assert 10 <= len(agent.steps) <= 15
            assert 1_000 <= agent.steps[-1].output_tokens <= 2_000


def test_no_pressure_is_none():
    made = generate("no-pressure", None, 0)

    assert sum(last(made)) < 65_536
    assert max(last(generate("no-pressure", MANY, 1))) < 2_048


@pytest.mark.parametrize("name", ["", "sw", "SWE", "workload:swe"])
def test_an_unknown_name_lists_those_there_are(name):
    with pytest.raises(TraceError, match=f"no workload '{name}': give one of {', '.join(WORKLOADS)}$"):
        generate(name, 1, 0)


@pytest.mark.parametrize("count", [0, -3])
def test_no_agents_at_all_is_refused(count):
    with pytest.raises(TraceError, match=f"{count} agents: give 1 or more"):
        generate("swe", count, 0)


def test_what_is_generated_can_be_written_and_read_as_a_trace(tmp_path):
    made = generate("fan-out", 2, 0) + generate("burst", 3, 0)
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f"{agent.model_dump_json()}\n" for agent in made))

    assert read_traces(path) == made


def test_a_spread_has_its_median_and_p90_and_keeps_its_limits():
    rng = random.Random(1)
    drawn = [Spread(10, 30, 4, 80).draw(rng) for _ in range(4000)]

    assert statistics.median(drawn) == pytest.approx(10, rel=0.05)
    assert quantile(drawn, 0.9) == pytest.approx(30, rel=0.07)
    assert (min(drawn), max(drawn)) == (4, 80)


def test_a_mixture_draws_its_share_from_the_first():
    rng = random.Random(1)
    mixture = Mixture(0.25, Spread(1, 2, 0, 5), Spread(100, 200, 50, 500))

    assert sum(mixture.draw(rng) < 10 for _ in range(4000)) == pytest.approx(1000, rel=0.1)


def test_long_runs_of_coding_agents_read_less_at_each_call_and_those_of_search_agents_do_not():
    assert SWE.taper > 0
    assert SEARCH.taper == 0
    made = [agent for agent in generate("swe", MANY, 0) if len(agent.steps) > 5]
    median = quantile(steps(made), 0.5)

    def read(agents):
        return statistics.mean(step.new_input_tokens for agent in agents for step in agent.steps[1:])

    assert read([a for a in made if len(a.steps) > median]) < read([a for a in made if len(a.steps) <= median])
