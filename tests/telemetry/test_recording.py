"""A recorded run is a trace that replays as the run went."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from concur_agents import ConcurGate
from concur_agents.replay.gates import make_gate
from concur_agents.replay.shape import Shape
from concur_agents.replay.simulated import URL, run_simulated
from concur_agents.replay.trace import read_traces
from concur_agents.replay.workload import Workload
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.virtual_time import run


async def turn(agent, prompt, output, cached=None, seconds=1.0):
    async with agent.turn() as turn:
        await asyncio.sleep(seconds)
        turn.report(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)


def recorded(path, agents, **settings):
    """Run what `agents(gate)` does in virtual time; what was recorded."""

    async def main():
        async with ConcurGate(**{"controller": "none", **settings}) as gate:
            with gate.record(path) as recording:
                await agents(gate)
            return recording

    recording = run(main())
    return recording, read_traces(path) if recording.agents else []


def test_an_agent_is_written_with_its_tokens_and_its_tool_waits(tmp_path):
    async def agents(gate):
        await asyncio.sleep(5.0)
        async with gate.agent("task-17", kind="swe") as agent:
            await turn(agent, 1000, 50, 0)
            await asyncio.sleep(2.5)
            await turn(agent, 1200, 30, 1040)

    recording, [trace] = recorded(tmp_path / "run.jsonl", agents)
    assert recording.agents == 1
    assert (trace.agent_id, trace.prefix_group, trace.start_seconds) == ("task-17", "swe", 5.0)
    assert [(s.context_tokens, s.new_input_tokens, s.output_tokens, s.tool_seconds) for s in trace.steps] == [
        (1000, 1000, 50, 2.5),
        (1200, 160, 30, None),
    ]


def test_a_prompt_that_was_evicted_counts_as_kept_all_the_same(tmp_path):
    async def agents(gate):
        async with gate.agent() as agent:
            await turn(agent, 1000, 50, 0)
            await turn(agent, 1200, 30, 0)

    _, [trace] = recorded(tmp_path / "run.jsonl", agents)
    assert trace.steps[1].new_input_tokens == 200


def test_a_shorter_prompt_is_a_reset(tmp_path):
    async def agents(gate):
        async with gate.agent() as agent:
            await turn(agent, 1000, 50)
            await turn(agent, 400, 30)

    _, [trace] = recorded(tmp_path / "run.jsonl", agents)
    assert [(step.reset, step.new_input_tokens) for step in trace.steps] == [(False, 1000), (True, 400)]


def test_a_pause_is_no_part_of_a_tool_wait(tmp_path):
    gates = []

    async def agents(gate):
        gates.append(gate)
        async with gate.agent("a") as agent:
            await turn(agent, 1000, 50)
            await asyncio.sleep(2.0)
            hold = asyncio.create_task(held(gate))
            await asyncio.sleep(0)
            await turn(agent, 1100, 50)
            await hold

    async def held(gate):
        async with gate.hold():
            await asyncio.sleep(30.0)

    _, [trace] = recorded(tmp_path / "run.jsonl", agents)
    assert trace.steps[0].tool_seconds == 2.0


def test_agents_that_ran_in_a_tool_wait_are_what_that_step_spawned(tmp_path):
    async def child(gate, name):
        async with gate.agent(name) as agent:
            await turn(agent, 300, 20)

    async def agents(gate):
        async with gate.agent("boss") as boss:
            await turn(boss, 1000, 50)
            await asyncio.sleep(1.0)
            await asyncio.gather(child(gate, "x"), child(gate, "x"))
            await turn(boss, 1100, 50)
            await child(gate, "last")

    _, traces = recorded(tmp_path / "run.jsonl", agents)
    by_name = {trace.agent_id: trace for trace in traces}
    assert by_name["boss"].steps[0].spawns == ("x", "x#2")
    assert (by_name["x"].parent, by_name["x"].start_seconds) == ("boss", 1.0)
    # No step follows that could have awaited it, so it is an agent of its own.
    assert by_name["boss"].steps[1].spawns == ()
    assert (by_name["last"].parent, by_name["last"].start_seconds) == ("boss", 4.0)


def test_a_child_that_outlives_the_wait_is_an_agent_of_its_own(tmp_path):
    async def slow(gate):
        async with gate.agent("slow") as agent:
            await turn(agent, 300, 20, seconds=10.0)

    async def agents(gate):
        async with gate.agent("boss") as boss:
            await turn(boss, 1000, 50)
            task = asyncio.create_task(slow(gate))
            await asyncio.sleep(1.0)
            await turn(boss, 1100, 50)
            await task

    _, traces = recorded(tmp_path / "run.jsonl", agents)
    by_name = {trace.agent_id: trace for trace in traces}
    assert by_name["boss"].steps[0].spawns == ()
    assert by_name["slow"].start_seconds == 1.0


def test_turns_without_tokens_are_left_out_and_said_once(tmp_path, caplog):
    async def agents(gate):
        async with gate.agent() as agent:
            for _ in range(3):
                async with agent.turn():
                    pass

    with caplog.at_level(logging.WARNING):
        recording, traces = recorded(tmp_path / "run.jsonl", agents)
    assert (recording.agents, recording.left_out, traces) == (0, 3, [])
    assert len(caplog.records) == 1


def test_what_is_unfinished_at_the_end_is_written_as_far_as_it_came(tmp_path):
    path = tmp_path / "run.jsonl"

    async def main():
        gate = ConcurGate(controller="none")
        gate.record(path)
        async with gate.agent("cut") as agent:
            await turn(agent, 1000, 50)
            await gate.aclose()
            assert [trace.agent_id for trace in read_traces(path)] == ["cut"]

    run(main())


def test_each_agent_is_in_the_file_as_soon_as_it_is_over(tmp_path):
    path = tmp_path / "run.jsonl.gz"

    async def agents(gate):
        async with gate.agent("a") as agent:
            await turn(agent, 1000, 50)

    recording, [trace] = recorded(path, agents)
    assert trace.agent_id == "a"
    recording.close()


def test_agents_that_began_before_the_recording_are_not_in_it(tmp_path):
    path = tmp_path / "run.jsonl"

    async def main():
        gate = ConcurGate(controller="none")
        async with gate.agent("early") as early, early.turn() as first:
            with gate.record(path) as recording:
                first.report(prompt_tokens=10, completion_tokens=1)
                first.end()
                await turn(early, 20, 1)
            return recording

    assert run(main()).agents == 0


def test_a_wrong_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a recording is a \.jsonl or \.jsonl\.gz file"):
        ConcurGate(controller="none").record(tmp_path / "run.csv")


def test_no_text_and_no_secret_is_in_it(tmp_path):
    async def agents(gate):
        async with gate.agent("a") as agent:
            await turn(agent, 1000, 50)

    path = tmp_path / "run.jsonl"
    recorded(path, agents)
    assert set(json.loads(path.read_text())) == {"agent_id", "source", "prefix_group", "tokens", "steps"}


@pytest.mark.parametrize("controller", ["none", "working-set"])
def test_a_recording_replays_as_the_run_went(tmp_path, controller):
    path = tmp_path / "run.jsonl"
    profile = EngineProfile.from_hardware("qwen3-32b", "h100:2")
    workload = Workload.load("workload:swe", Shape(agents=60, seed=3, scale=0.4, max_context=30_000))

    def recording(fetch_metrics, poll_interval_s):
        gate = make_gate(URL, controller, poll_interval_s=poll_interval_s, fetch_metrics=fetch_metrics)
        gate.record(path)
        return gate

    real = run_simulated(workload, controller, profile, gate=recording)
    again = run_simulated(Workload.load(str(path), Shape()), controller, profile)

    before = {agent.agent_id: agent for agent in workload.agents}
    for agent in read_traces(path):
        steps = before[agent.agent_id].steps
        assert [step.context_tokens for step in agent.steps] == [step.context_tokens for step in steps]
        assert [step.output_tokens for step in agent.steps] == [step.output_tokens for step in steps]
        waits = [step.tool_seconds or 0.0 for step in steps[:-1]]
        assert [step.tool_seconds for step in agent.steps[:-1]] == pytest.approx(waits)
    assert again.turns == real.turns
    assert again.hit_rate == pytest.approx(real.hit_rate, abs=0.03)
    assert again.makespan_s == pytest.approx(real.makespan_s, rel=0.1)
