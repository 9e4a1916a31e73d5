"""Runs in virtual time: the real gate on the embedded engine, the same to the last digit."""

from __future__ import annotations

import math
import signal

import pytest

from concur_agents.replay.gates import make_gate
from concur_agents.replay.shape import Shape
from concur_agents.replay.simulated import engine_info, run_simulated
from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.replay.workload import Workload
from concur_agents.simulation import RequestRefused
from concur_agents.simulation.profile import EngineProfile, LinearProfile

PROFILE = EngineProfile(
    name="tiny",
    description="a tiny engine",
    blocks=1001,
    max_model_len=4000,
    max_num_batched_tokens=512,
    max_num_seqs=64,
    step_time=LinearProfile(step=0.01, token=2e-4),
)
"""Holds 16,000 tokens."""


def growing(number: int, *, turns: int = 8, tool: float = 1.0, start: float = 0.0) -> AgentTrace:
    """An agent that ends with 1,900 tokens: eight of them fill the cache of `PROFILE`."""
    steps = [
        TraceStep(
            context_tokens=500 + 200 * turn,
            new_input_tokens=160 if turn else 500,
            output_tokens=40,
            tool_seconds=tool + 0.01 * number,
        )
        for turn in range(turns)
    ]
    return AgentTrace(
        agent_id=f"a{number}", prefix_group="g", shared_prefix_tokens=128, steps=steps, start_seconds=start
    )


def workload(*agents: AgentTrace) -> Workload:
    return Workload("t.jsonl", Shape(), agents)


MANY = workload(*(growing(number) for number in range(32)))
"""Four times what the cache holds."""


def simulate(load: Workload, controller: str = "none", *, profile: EngineProfile = PROFILE, progress=None):
    return run_simulated(load, controller, profile, on_progress=[].append if progress is None else progress)


# --- the same, and another --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controller", ["none", "fixed:6", "aimd", "pi"])
def test_the_same_run_gives_the_same_result_to_the_last_digit(controller):
    assert simulate(MANY, controller).model_dump() == simulate(MANY, controller).model_dump()


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    def dump(seed):
        load = Workload.load("workload:no-pressure", Shape(agents=6, seed=seed, scale=0.05))
        return simulate(load, "aimd").model_dump()

    first = dump(1)
    assert dump(1) == first
    second = dump(2)
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["makespan_s"] != second["makespan_s"]


def test_what_people_see_of_a_run_does_not_change_it():
    unseen = run_simulated(MANY, "aimd", PROFILE, on_progress=lambda progress: None)
    seen = []
    assert simulate(MANY, "aimd", progress=seen.append) == unseen
    assert seen


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controller", ["none", "fixed:6", "aimd", "pi"])
def test_every_call_of_the_workload_is_made_and_counted_once(controller):
    result = simulate(MANY, controller)

    assert result.controller == controller
    assert result.turns == MANY.turns == 32 * 8
    assert result.output_tokens == MANY.info(None).output_tokens == 32 * 8 * 40
    assert result.prompt_tokens == sum(step.context_tokens for agent in MANY.agents for step in agent.steps)
    assert result.output_tokens_per_s == pytest.approx(result.output_tokens / result.makespan_s)
    assert (result.failed_agents, result.first_error) == (0, None)


@pytest.mark.parametrize("controller", ["none", "fixed:6", "aimd", "pi"])
def test_hit_rates_are_between_what_the_prefix_alone_gives_and_what_a_boundless_cache_gives(controller):
    info, result = MANY.info(PROFILE.capacity_tokens), simulate(MANY, controller)

    # Whole blocks are found again, and never all of a prompt: up to a block a call less than there is.
    block = PROFILE.block_size * MANY.turns / result.prompt_tokens
    assert info.hit_rate_floor - block <= result.hit_rate <= info.hit_rate_ideal


def test_without_a_gate_the_cache_thrashes_and_under_a_fitting_cap_it_does_not():
    none, capped = simulate(MANY, "none"), simulate(MANY, "fixed:6")

    assert none.preemptions > capped.preemptions == 0
    assert capped.hit_rate > MANY.info(None).hit_rate_ideal - 0.05
    assert none.hit_rate < MANY.info(None).hit_rate_floor + 0.05
    assert none.computed_prompt_tokens > 5 * capped.computed_prompt_tokens
    assert none.kv_usage_peak > 0.9
    assert none.mean_active_agents > 20
    assert capped.mean_active_agents <= 6
    assert none.max_wait_s == 0
    assert capped.max_wait_s > 0


def test_without_pressure_no_gate_and_a_wide_cap_are_the_same_run():
    few = workload(*(growing(number) for number in range(4)))

    none, capped = simulate(few, "none"), simulate(few, "fixed:4")

    assert none.preemptions == 0
    limits = {"controller": True, "decisions": True, "timeline": {"__all__": {"budget_agents", "budget_tokens"}}}
    assert capped.model_dump(exclude=limits) == none.model_dump(exclude=limits)


def test_the_timeline_goes_from_the_beginning_to_the_end():
    result = simulate(MANY, "fixed:6")

    times = [moment.time_s for moment in result.timeline]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] >= result.makespan_s - 2
    assert max(moment.active for moment in result.timeline) == 6
    assert result.timeline[-1].output_tokens == result.output_tokens


# --- when agents start ------------------------------------------------------------------------------------------------


def test_every_agent_is_told_with_what_it_met():
    result = simulate(MANY, "fixed:6")

    assert sorted(agent.name for agent in result.agents) == sorted(agent.agent_id for agent in MANY.agents)
    assert sum(agent.turns for agent in result.agents) == result.turns
    assert sum(agent.output_tokens for agent in result.agents) == result.output_tokens
    assert {agent.size_tokens for agent in result.agents} == {500 + 200 * 7 + 40}
    assert max(agent.wait_s for agent in result.agents) == pytest.approx(result.max_wait_s)  # a cap pauses nobody
    assert sum(agent.wait_s == 0 for agent in result.agents) == 6
    assert all(0.001 < agent.time_per_output_token_s < 1 for agent in result.agents)
    assert not any(agent.failed for agent in result.agents)


def test_what_agents_met_at_the_gate_and_in_the_server_and_their_tools_is_their_time():
    """Of the last one to end, all of it together is the run."""
    result = simulate(MANY, "fixed:6")

    last = result.agents[-1]
    tools = sum(step.tool_seconds for step in MANY.agents[int(last.name[1:])].steps[:-1])
    assert last.wait_s + last.time_per_output_token_s * last.output_tokens + tools == pytest.approx(
        result.makespan_s, abs=0.01
    )


def test_the_decisions_of_the_gate_are_told_and_each_moment_has_the_budget_in_force():
    result = simulate(MANY, "aimd")

    assert result.decisions_made == len(result.decisions) > 3
    times = [decision.time_s for decision in result.decisions]
    assert times == sorted(times)
    assert times[0] == 0.0
    assert times[-1] <= result.makespan_s
    assert all("window" in decision.reason for decision in result.decisions)
    for moment in result.timeline:
        before = [decision.agents for decision in result.decisions if decision.time_s < moment.time_s]
        at_once = [decision.agents for decision in result.decisions if decision.time_s == moment.time_s]
        assert moment.budget_agents in {*before[-1:], *at_once}
        assert moment.budget_tokens is None


def test_decisions_that_the_gate_has_forgotten_are_told_all_the_same(monkeypatch):
    expected = simulate(MANY, "aimd").decisions
    monkeypatch.setattr("concur_agents.regulator.HISTORY", 2)

    assert simulate(MANY, "aimd").decisions == expected


def test_of_thousands_of_agents_a_thousand_are_told(monkeypatch):
    monkeypatch.setattr("concur_agents.replay.recorder.AGENTS", 5)
    monkeypatch.setattr("concur_agents.replay.recorder.DECISIONS", 3)

    result = simulate(MANY, "aimd")

    assert len(result.agents) == 5
    assert len(result.decisions) == 3 < result.decisions_made


def test_a_gate_that_keeps_no_account_of_its_decisions_has_none():
    class Silent:
        def __init__(self, gate):
            self._gate = gate

        def __getattr__(self, name):
            return getattr(self._gate, name)

        def history(self):
            return None

        async def __aenter__(self):
            await self._gate.__aenter__()
            return self

        async def __aexit__(self, *exc):
            return await self._gate.__aexit__(*exc)

    def make(fetch, poll_interval_s):
        return Silent(make_gate("http://x", "fixed:6", poll_interval_s=poll_interval_s, fetch_metrics=fetch))

    result = run_simulated(MANY, "other", PROFILE, gate=make)

    assert result.decisions_made is None
    assert result.decisions == ()
    assert {moment.budget_agents for moment in result.timeline} == {None}


def test_agents_ask_for_their_place_when_they_start():
    late = workload(growing(0, turns=1), growing(1, turns=1, start=500.0))

    result = simulate(late, "fixed:1")

    assert 500 < result.makespan_s < 510
    assert result.max_wait_s == 0
    assert result.mean_active_agents < 0.1


def test_nobody_waits_for_a_tool_after_the_last_call():
    assert simulate(workload(growing(0, turns=1, tool=1000.0))).makespan_s < 10
    assert simulate(workload(growing(0, turns=2, tool=1000.0))).makespan_s > 1000


def test_a_tool_wait_that_is_not_known_is_none():
    steps = [
        TraceStep(context_tokens=100, new_input_tokens=100, output_tokens=5),
        TraceStep(context_tokens=120, new_input_tokens=15, output_tokens=5),
    ]
    assert simulate(workload(AgentTrace(agent_id="a", steps=steps))).makespan_s < 1


def family(*, parent_tool: float = 9999.0) -> Workload:
    """A parent that spawns two agents after its first call; the second one starts 50 s after that."""
    steps = [
        TraceStep(
            context_tokens=100,
            new_input_tokens=100,
            output_tokens=10,
            tool_seconds=parent_tool,
            spawns=("quick", "late"),
        ),
        TraceStep(context_tokens=150, new_input_tokens=40, output_tokens=10),
    ]
    quick, late = (growing(number, turns=2).model_copy(update={"parent": "parent"}) for number in range(2))
    return workload(
        AgentTrace(agent_id="parent", steps=steps),
        quick.model_copy(update={"agent_id": "quick"}),
        late.model_copy(update={"agent_id": "late", "start_seconds": 50.0}),
    )


def test_a_parent_shares_its_one_place_with_those_it_spawns_and_awaits_them():
    result = simulate(family(), "fixed:1")

    assert result.turns == 2 + 2 + 2
    assert result.output_tokens == 2 * 10 + 4 * 40
    assert 50 < result.makespan_s < 60  # not the 9,999 s of the tool
    assert {moment.active for moment in result.timeline[1:-1]} == {1}
    assert result.mean_active_agents == pytest.approx(1, abs=0.01)
    assert {moment.queued for moment in result.timeline} == {0}


def test_another_agent_waits_until_the_whole_family_is_over():
    load = family()

    result = simulate(workload(*load.agents, growing(7, turns=1)), "fixed:1")

    assert result.turns == 7
    assert result.max_wait_s == pytest.approx(simulate(load, "fixed:1").makespan_s)


def test_names_that_are_there_twice_are_two_agents():
    twins = workload(growing(0), growing(0))

    result = simulate(twins)

    assert result.turns == 16
    assert result.hit_rate <= twins.info(None).hit_rate_ideal  # they share no more than others


# --- progress and errors ----------------------------------------------------------------------------------------------


def test_progress_is_told_at_the_beginning_on_the_way_and_at_the_end():
    seen = []

    simulate(MANY, "fixed:6", progress=seen.append)

    assert seen[0].waiting_for_server
    assert not any(progress.waiting_for_server for progress in seen[1:])
    last = seen[-1]
    assert (last.agents_done, last.agents, last.turns_done, last.turns) == (32, 32, 256, 256)
    assert (last.active, last.paused, last.queued) == (0, 0, 0)
    assert last.capacity_tokens == PROFILE.capacity_tokens
    done = [progress.turns_done for progress in seen]
    assert done == sorted(done)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (TraceStep(context_tokens=3990, new_input_tokens=3990, output_tokens=20), "maximum context length is 4000"),
        (TraceStep(context_tokens=10, new_input_tokens=10, output_tokens=0), "ask for 1 or more"),
    ],
)
def test_a_call_that_the_engine_cannot_take_ends_the_run_with_its_words(step, says):
    odd = AgentTrace(agent_id="odd", steps=(step,))

    with pytest.raises(RequestRefused, match=says):
        simulate(workload(growing(0), odd, odd.model_copy(), growing(1)))


def test_an_unknown_controller_is_told():
    with pytest.raises(ValueError, match="no controller is called 'magic'"):
        simulate(MANY, "magic")


def test_an_error_in_who_watches_ends_the_run():
    def fail(progress):
        if not progress.waiting_for_server:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        simulate(MANY, progress=fail)


def test_ctrl_c_ends_the_run():
    told = []

    def stop(progress):
        told.append(progress)
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            simulate(MANY, progress=stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(told) == 2
    assert simulate(workload(growing(0))).turns == 8


def test_settings_of_other_gates_do_not_bend_a_run(monkeypatch):
    expected = simulate(MANY, "fixed:6")
    monkeypatch.setenv("CONCUR_DISABLED", "1")
    monkeypatch.setenv("CONCUR_MAX_AGENTS", "1")
    monkeypatch.setenv("CONCUR_POLL_INTERVAL_S", "0.1")

    assert simulate(MANY, "fixed:6") == expected


def test_the_engine_of_the_results_is_said_to_be_simulated():
    info = engine_info(PROFILE)

    assert info.url is None
    assert info.simulated == "a tiny engine"
    assert (info.model, info.block_size, info.max_model_len) == ("tiny", 16, 4000)
    assert info.capacity_tokens == PROFILE.capacity_tokens
    assert math.isclose(info.capacity_tokens, 16_000, rel_tol=0.01)
