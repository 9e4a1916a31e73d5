from __future__ import annotations

import asyncio
import itertools
from itertools import pairwise, takewhile

import pytest
from aiohttp import web

from concur_agents.errors import MetricsError
from concur_agents.replay.prompt import IDS
from concur_agents.replay.runner import run_live
from concur_agents.replay.server import ReplayError, open_server
from concur_agents.replay.shape import Shape
from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.replay.workload import Workload

from .replay_vllm import OUTPUT_ID, FakeVLLM


def agent(number, *, shared=32, group="g", tool=None):
    """Three calls: all is kept, then only the prompt, then a reset to the shared prefix and a bit."""
    counts = [(64, 64, 16), (100, 20, 4), (120, 20, 8), (50, 10, 2)]
    steps = [
        TraceStep(context_tokens=context, new_input_tokens=new, output_tokens=output, tool_seconds=tool)
        for context, new, output in counts
    ]
    return AgentTrace(agent_id=f"agent-{number}", prefix_group=group, shared_prefix_tokens=shared, steps=steps)


def workload(count=4, **changes):
    return Workload("t.jsonl", Shape(), tuple(agent(n, **changes) for n in range(count)))


@pytest.fixture
async def vllm():
    async with FakeVLLM() as server:
        yield server


@pytest.fixture
async def server(vllm):
    async with open_server(vllm.url, model_name=None, api_key="k") as server:
        yield server


async def replay(load, controller, server, progress=None):
    return await run_live(load, controller, server, on_progress=(progress if progress is not None else []).append)


def conversations(bodies):
    """The requests of each agent, told apart by the first token after the 32 shared ones."""
    agents = {}
    for body in bodies:
        agents.setdefault(body["prompt"][32], []).append(body)
    return agents


def common(one, other):
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


async def test_every_agent_sends_the_calls_of_its_trace_to_the_token(vllm, server):
    await replay(workload(), "none", server)

    (bodies,) = vllm.bodies_by_salt().values()
    agents = conversations(bodies)
    assert len(agents) == 4
    for calls in agents.values():
        assert [len(call["prompt"]) for call in calls] == [64, 100, 120, 50]
        assert [call["max_tokens"] for call in calls] == [16, 4, 8, 2]
        assert all(call["min_tokens"] == call["max_tokens"] and call["ignore_eos"] for call in calls)
        assert all(call["model"] == "tiny" for call in calls)


async def test_outputs_are_fed_back_as_they_came_and_only_what_the_trace_keeps(vllm, server):
    await replay(workload(count=1), "none", server)

    (calls,) = vllm.bodies_by_salt().values()
    first, second, third, fourth = (call["prompt"] for call in calls)
    assert second[:80] == first + [OUTPUT_ID] * 16
    assert third[:100] == second
    assert third[100] in IDS  # the output is not kept
    assert common(fourth, third) == 40


async def test_agents_share_the_prefix_of_their_group_and_nothing_else(vllm, server):
    await replay(workload(), "none", server)

    (bodies,) = vllm.bodies_by_salt().values()
    firsts = [calls[0]["prompt"] for calls in conversations(bodies).values()]
    assert {common(firsts[0], other) for other in firsts[1:]} == {32}


async def test_each_run_has_the_same_prompts_and_a_cache_of_its_own(vllm, server):
    first = await replay(workload(), "none", server)
    second = await replay(workload(), "none", server)

    runs = list(vllm.bodies_by_salt().values())
    assert len(runs) == 2
    prompts = [sorted(body["prompt"] for body in run) for run in runs]
    assert prompts[0] == prompts[1]
    assert first.hit_rate == second.hit_rate


async def test_what_was_measured_is_what_happened(vllm, server):
    vllm.queries, vllm.hits, vllm.computed = 1000, 900, 100  # from before the run

    result = await replay(workload(), "none", server)

    assert result.controller == "none"
    assert result.turns == 16
    assert result.output_tokens == 4 * (16 + 4 + 8 + 2)
    assert result.prompt_tokens == 4 * (64 + 100 + 120 + 50)
    assert result.prompt_tokens - result.computed_prompt_tokens == vllm.hits - 900
    assert result.hit_rate == pytest.approx((vllm.hits - 900) / result.prompt_tokens)
    assert 0.5 < result.hit_rate < 0.9
    assert result.preemptions == 0
    assert result.failed_agents == 0
    assert result.output_tokens_per_s == pytest.approx(result.output_tokens / result.makespan_s)
    assert 0 < result.p50_time_per_output_token_s <= result.p99_time_per_output_token_s
    assert 0 < result.mean_active_agents <= 4
    assert {(one.turns, one.output_tokens, one.size_tokens) for one in result.agents} == {(4, 30, 52)}
    assert [(one.time_s, one.reason) for one in result.decisions] == [(0.0, "no limit")]


async def test_a_fixed_cap_holds_agents_not_requests(vllm, server):
    result = await replay(workload(count=6), "fixed:1", server)

    (bodies,) = vllm.bodies_by_salt().values()
    order = [body["prompt"][32] for body in bodies]
    changes = sum(1 for one, other in pairwise(order) if one != other)
    assert changes == 5  # each agent ran to its end before the next began
    assert list(dict.fromkeys(order)) == list(IDS[:6])  # in the order of the workload
    assert vllm.most_at_once == 1
    assert result.mean_active_agents <= 1.01
    assert result.max_wait_s > 0


async def test_all_calls_of_an_agent_carry_its_session(vllm, server):
    await replay(workload(count=3), "none", server)

    sessions = {}
    for body, headers in zip(vllm.bodies, vllm.headers, strict=True):
        if "cache_salt" in body:
            sessions.setdefault(headers["X-Session-ID"], []).append(body["prompt"][32])
    assert sorted(len(calls) for calls in sessions.values()) == [4, 4, 4]
    assert all(len(set(calls)) == 1 for calls in sessions.values())


async def test_without_returned_ids_prompts_still_have_the_length_of_the_trace(vllm):
    vllm.returns_ids = False
    async with open_server(vllm.url, model_name=None, api_key="k") as server:
        result = await replay(workload(count=1), "none", server)

    (calls,) = vllm.bodies_by_salt().values()
    assert [len(call["prompt"]) for call in calls] == [64, 100, 120, 50]
    assert OUTPUT_ID not in calls[1]["prompt"]
    assert result.output_tokens == 30


async def test_an_agent_that_fails_is_counted_and_the_others_go_on(vllm, server):
    def refuse_long_prompts_of_one(body):
        if body["prompt"][32:33] == [IDS[0]] and len(body["prompt"]) == 120:
            return web.json_response({"error": {"message": "no room for this"}}, status=400)
        return None

    vllm.refuse = refuse_long_prompts_of_one
    result = await replay(workload(), "fixed:2", server)

    assert result.failed_agents == 1
    assert "no room for this" in result.first_error
    assert result.turns == 3 * 4 + 2
    (failed,) = [one for one in result.agents if one.failed]
    assert (failed.name, failed.turns, failed.output_tokens, failed.size_tokens) == ("agent-0", 2, 20, 104)
    assert len(result.agents) == 4


async def test_a_run_in_which_every_agent_fails_is_an_error(vllm, server):
    vllm.refuse = lambda body: web.json_response({"error": {"message": "out of order"}}, status=400)

    with pytest.raises(ReplayError, match=r"all 4 agents failed under aimd, .*out of order"):
        await replay(workload(), "aimd", server)


async def test_a_server_that_generates_nothing_is_an_error(vllm, server):
    def nothing(body):
        choice = {"index": 0, "text": "", "finish_reason": "stop", "token_ids": []}
        return web.json_response({"id": "1", "object": "text_completion", "created": 1, "choices": [choice]})

    vllm.refuse = nothing
    with pytest.raises(ReplayError, match="generated no token"):
        await replay(workload(), "none", server)


async def test_metrics_that_vanish_in_mid_run_are_an_error(vllm, server):
    def vanish(body):
        vllm.serves_metrics = False

    vllm.refuse = vanish
    with pytest.raises(MetricsError, match="404"):
        await replay(workload(), "none", server)


async def test_the_environment_of_other_gates_does_not_bend_a_run(vllm, server, monkeypatch):
    monkeypatch.setenv("CONCUR_DISABLED", "1")
    monkeypatch.setenv("CONCUR_MAX_AGENTS", "1")
    vllm.hold = held = asyncio.Event()

    running = asyncio.create_task(replay(workload(count=5), "fixed:3", server))
    await vllm.until(lambda: vllm.at_once == 3)
    held.set()
    await running

    assert vllm.most_at_once == 3


async def test_progress_tells_of_the_wait_and_then_of_every_agent_and_turn(server):
    seen = []

    await replay(workload(), "none", server, seen)

    assert seen[0].waiting_for_server
    assert not any(progress.waiting_for_server for progress in seen[1:])
    last = seen[-1]
    assert (last.agents_done, last.agents, last.turns_done, last.turns) == (4, 4, 16, 16)
    assert (last.active, last.paused, last.queued) == (0, 0, 0)


async def test_a_cancelled_run_leaves_nothing_running(vllm, server):
    vllm.hold = asyncio.Event()
    running = asyncio.create_task(replay(workload(count=3), "fixed:2", server))
    await vllm.until(lambda: vllm.at_once == 2)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await vllm.until(lambda: vllm.at_once == 0)
    assert {task for task in asyncio.all_tasks() if "replay" in repr(task)} <= {asyncio.current_task()}


async def test_usage_is_that_of_the_run_and_not_of_the_moment_before(vllm, server):
    vllm.hold = held = asyncio.Event()
    pages = itertools.count()
    # Looked at before the run: is it idle, its counters, has it metrics (the gate).
    vllm.usage = lambda: {0: 0.9, 1: 0.9, 2: 0.9, 4: 0.75}.get(next(pages), 0.25)

    running = asyncio.create_task(replay(workload(count=2), "none", server))
    await vllm.until(lambda: vllm.pages_while_busy >= 3)
    held.set()
    result = await running

    assert result.kv_usage_peak == 0.75
    assert 0.25 < result.kv_usage_mean < 0.75
