"""The calibration against embedded engines of known cost, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import openai
import pytest

from concur_agents.replay.calibrate import PASSES, calibrate
from concur_agents.replay.in_process import open_in_process
from concur_agents.replay.server import ReplayError
from concur_agents.simulation import SchedulerLimits
from concur_agents.simulation.profile import EngineProfile, LinearProfile
from concur_agents.simulation.virtual_time import run

COSTS = LinearProfile(step=0.011, token=3e-4, attended=1.2e-7, read=8e-7, request=3e-4, prompt=0.009)
LIMITS = SchedulerLimits(max_num_batched_tokens=2048, max_num_seqs=128, async_scheduling=False)
PROFILE = EngineProfile(
    name="tiny",
    blocks=512,
    block_size=32,
    max_model_len=8192,
    max_num_batched_tokens=2048,
    max_num_seqs=128,
    async_scheduling=False,
    step_time=COSTS,
)

QUICK = PROFILE.model_copy(update={"step_time": LinearProfile(step=0.02, token=1e-4)})


def heard_one_by_one(server):
    """As a real server hears calls that are sent at once; in virtual time they would all come in the same instant."""
    create = server.client.completions.create
    calls = 0

    async def a_little_later(**body):
        nonlocal calls
        calls += 1
        await asyncio.sleep(2e-5 * (calls % 100))
        return await create(**body)

    server.client.completions.create = a_little_later


def calibrated(profile=PROFILE, *, limits=LIMITS, tamper=lambda server: None, on_progress=lambda progress: None):
    async def main():
        async with open_in_process(profile) as server:
            heard_one_by_one(server)
            tamper(server)
            return await calibrate(server, on_progress=on_progress, limits=limits)

    return run(main())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_costs_of_an_engine_are_found_from_outside(asynchronous):
    limits = replace(LIMITS, async_scheduling=asynchronous)
    found = calibrated(PROFILE.model_copy(update={"async_scheduling": asynchronous}), limits=limits)

    costs = found.profile.step_time
    assert costs.token == pytest.approx(COSTS.token, rel=0.02)
    assert costs.attended == pytest.approx(COSTS.attended, rel=0.02)
    assert costs.read == pytest.approx(COSTS.read, rel=0.05)
    assert costs.step == pytest.approx(COSTS.step, rel=0.05)
    assert costs.request == pytest.approx(COSTS.request, rel=0.2)
    assert costs.prompt == pytest.approx(COSTS.prompt, rel=0.1)
    assert found.profile.request_latency < 0.002
    assert found.typical_error < 0.02


def test_a_cost_that_is_not_there_is_not_found():
    found = calibrated(QUICK)

    costs = found.profile.step_time
    assert (costs.step, costs.token) == pytest.approx((0.02, 1e-4), rel=0.05)
    assert costs.attended * 4000 + costs.read * 4000 < 0.01 * costs.step
    assert costs.request < 0.02 * costs.step


def test_what_a_call_takes_on_its_way_is_told_from_what_a_step_takes():
    def slow(server):
        create = server.client.completions.create

        async def later(**body):
            await asyncio.sleep(0.25)
            return await create(**body)

        server.client.completions.create = later

    found = calibrated(tamper=slow)

    assert found.profile.request_latency == pytest.approx(0.25, rel=0.02)
    assert found.profile.step_time.token == pytest.approx(COSTS.token, rel=0.02)


def test_the_servers_own_figures_and_the_given_limits_are_in_the_profile():
    profile = calibrated().profile

    assert profile.name == "tiny"
    assert (profile.blocks, profile.block_size, profile.max_model_len) == (512, 32, 8192)
    assert profile.capacity_tokens == 16_384
    assert (profile.max_num_batched_tokens, profile.max_num_seqs, profile.async_scheduling) == (2048, 128, False)


def test_every_probe_is_told_before_it_begins_and_timed_in_every_pass():
    told = []
    found = calibrated(QUICK, on_progress=told.append)

    assert [progress.number for progress in told] == list(range(1, told[0].of + 1))
    assert len(told) == PASSES * len(found.probes)
    assert {len(probe.passes_s) for probe in found.probes} == {PASSES}


def test_a_slow_server_is_measured_once():
    found = calibrated(PROFILE.model_copy(update={"step_time": LinearProfile(step=0.2, token=1e-3)}))

    assert {len(probe.passes_s) for probe in found.probes} == {1}
    assert found.profile.step_time.token == pytest.approx(1e-3, rel=0.05)


def test_one_disturbed_pass_does_no_harm():
    def disturb(server):
        create = server.client.completions.create
        calls = 0

        async def sometimes_late(**body):
            nonlocal calls
            calls += 1
            if 20 < calls < 200:  # within the first pass
                await asyncio.sleep(0.7)
            return await create(**body)

        server.client.completions.create = sometimes_late

    found = calibrated(QUICK, tamper=disturb)

    assert found.profile.step_time.token == pytest.approx(1e-4, rel=0.03)
    assert found.profile.request_latency < 0.003


@pytest.mark.parametrize(
    ("unsaid", "says"),
    [
        ({"capacity_tokens": None}, "does not say its KV cache's size"),
        ({"block_size": None}, "does not say its block size"),
        ({"max_model_len": None, "block_size": None}, "does not say its block size and its longest context"),
        ({"max_model_len": 300}, "is too small to calibrate"),
    ],
)
def test_a_server_that_does_not_say_enough_or_is_too_small_is_refused(unsaid, says):
    def forget(server):
        server.info = server.info.model_copy(update=unsaid)

    with pytest.raises(ReplayError, match=says):
        calibrated(tamper=forget)


def test_a_server_with_several_engines_is_refused():
    def double(server):
        readings = server.readings

        async def twice():
            return 2 * await readings()

        server.readings = twice

    with pytest.raises(ReplayError, match="has 2 engines"):
        calibrated(tamper=double)


def test_a_server_that_stops_early_is_refused():
    async def short(**body):
        return SimpleNamespace(usage=SimpleNamespace(completion_tokens=1))

    with pytest.raises(ReplayError, match="was asked for 33 output tokens and made 1: it has to honour min_tokens"):
        calibrated(tamper=lambda server: setattr(server.client.completions, "create", short))


def test_a_failing_call_is_told_without_the_key():
    async def fail(**body):
        raise openai.OpenAIError("no more memory for EMPTY")

    with pytest.raises(ReplayError, match=r"does not complete a prompt: .*no more memory for \[API key\]"):
        calibrated(tamper=lambda server: setattr(server.client.completions, "create", fail))
