"""The embedded engine, fitted to the real one, against it: the same loads on both.

The engine is fitted first, by the calibration that `concur fit` runs. Then each load runs on the real server, and in
virtual time on the fitted engine; hit rates, makespans and preemptions are compared.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from concur_agents.replay.calibrate import calibrate
from concur_agents.replay.runner import POLL_S, run_live
from concur_agents.replay.server import open_server
from concur_agents.replay.shape import Shape
from concur_agents.replay.simulated import run_simulated
from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.replay.workload import Workload
from concur_agents.simulation import SchedulerLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from concur_agents.replay.results import RunResult
    from concur_agents.replay.server import LiveServer
    from concur_agents.simulation.profile import EngineProfile

    Load = tuple[str, Callable[[], Workload], str]

log = logging.getLogger("live_simulation")

PLAYS = 5
JITTER_S = 0.1
"""A thrashing cache is chaotic: who comes a moment earlier decides what is evicted. The real server's hit rate on one
and the same load (`growing`) was 0.38, 0.39, 0.40 and 0.46 in four runs. So each load is simulated so many times, with
its agents starting up to so much later, and the prediction is the range of what comes out. [s]"""

LIMITS = SchedulerLimits(max_num_batched_tokens=2048, max_num_seqs=128, async_scheduling=False)
"""What our server is started with: vLLM's defaults on a CPU (platforms/cpu.py)."""
HIT_RATE_WITHIN = 0.05
MAKESPAN_WITHIN = 0.15
NEVER_BEYOND = 0.35
"""The real server's own seconds differ by as much from run to run, 6.0 to 7.4 s for one load (docs/simulation.md): the
middle one of the makespans' errors has to be within 15 %, and none beyond this. The table shows every one."""
ROUNDS = 3
"""A machine that others use too is at times a third slower for a minute, while the engine is fitted or while a load
runs: `answers` took 15.5 s in one run of this test and 20.8 s in another. So what is off is measured again, the fit
included, as one would by hand: what is off for a reason is off again."""
PREEMPTIONS_WITHIN = 3.0
"""A factor; a handful more or less is no other order either."""
A_HANDFUL = 5


@dataclass(frozen=True)
class Made:
    """A load made up here; ranges are of a uniform draw, tool waits in seconds, the rest in tokens."""

    name: str
    agents: int
    turns: int
    first: tuple[int, int]
    grows: tuple[int, int]
    outputs: tuple[int, int]
    waits: tuple[float, float]
    shared: int = 256
    seed: int = 7

    def workload(self) -> Workload:
        draw = random.Random(f"{self.name} {self.seed}")
        return Workload(self.name, Shape(), tuple(self._agent(draw, number) for number in range(self.agents)))

    def _agent(self, draw: random.Random, number: int) -> AgentTrace:
        steps = []
        new = context = draw.randint(*self.first)
        for _ in range(self.turns):
            output = draw.randint(*self.outputs)
            steps.append(
                TraceStep(
                    context_tokens=context,
                    new_input_tokens=new,
                    output_tokens=output,
                    tool_seconds=draw.uniform(*self.waits),
                )
            )
            new = draw.randint(*self.grows)
            context += output + new
        return AgentTrace(
            agent_id=f"{self.name}-{number}",
            prefix_group=self.name,
            shared_prefix_tokens=self.shared,
            steps=tuple(steps),
        )


def generated(name: str, shape: Shape) -> Callable[[], Workload]:
    return lambda: Workload.load(f"workload:{name}", shape)


GROWING = Made("growing", 16, 5, (600, 900), (200, 300), (16, 32), (0.05, 0.4))
LONG_TOOLS = Made("long-tools", 20, 4, (500, 900), (150, 300), (16, 32), (1.0, 5.0))
CROWD = Made("crowd", 64, 2, (1400, 1600), (450, 550), (8, 16), (0.1, 0.5), shared=1024)
ANSWERS = Made("answers", 26, 1, (400, 560), (100, 200), (280, 360), (0.1, 0.5), shared=64)
LIGHT = Made("light", 6, 6, (300, 600), (100, 200), (16, 32), (0.05, 0.4))
SWE = generated("swe", Shape(agents=8, seed=1, scale=0.03, scale_tools=0.1, max_context=2400))
SEARCH = generated("search", Shape(agents=20, seed=1, scale=0.03, scale_tools=0.5, max_context=2400))

LOADS: list[Load] = [
    ("light", LIGHT.workload, "none"),
    ("growing", GROWING.workload, "none"),
    ("growing", GROWING.workload, "fixed:5"),
    ("growing", GROWING.workload, "aimd"),
    ("long-tools", LONG_TOOLS.workload, "none"),
    ("crowd", CROWD.workload, "none"),
    ("answers", ANSWERS.workload, "none"),
    ("workload:swe", SWE, "fixed:4"),
    ("workload:search", SEARCH, "none"),
]


@dataclass(frozen=True)
class Row:
    """One load on both."""

    name: str
    controller: str
    oversubscription: float
    real: RunResult
    plays: tuple[RunResult, ...]

    @property
    def hit_rates(self) -> list[float]:
        return sorted(play.hit_rate for play in self.plays)

    @property
    def makespans(self) -> list[float]:
        return sorted(play.makespan_s for play in self.plays)

    @property
    def preemptions(self) -> list[int]:
        return sorted(play.preemptions for play in self.plays)

    @property
    def makespan_error(self) -> float:
        return beyond(self.real.makespan_s, self.makespans) / self.real.makespan_s

    @property
    def misses(self) -> list[str]:
        """What is further off than promised."""
        where = f"{self.name} under {self.controller}"
        misses = []
        if abs(beyond(self.real.hit_rate, self.hit_rates)) > HIT_RATE_WITHIN:
            misses.append(f"{where}: hit rate {self.real.hit_rate:.3f}, simulated {self.hit_rates}")
        fewer, more = sorted((self.real.preemptions, median(self.preemptions)))
        if more > A_HANDFUL and more > PREEMPTIONS_WITHIN * fewer:
            misses.append(f"{where}: {self.real.preemptions} preemptions, simulated {self.preemptions}")
        return misses

    @property
    def is_off(self) -> bool:
        return bool(self.misses) or abs(self.makespan_error) > NEVER_BEYOND

    def __str__(self) -> str:
        hits, spans, preempted = self.hit_rates, self.makespans, self.preemptions
        return (
            f"{self.name:16} {self.controller:8} {self.oversubscription:5.1f} "
            f"{self.real.hit_rate:9.3f} {hits[0]:6.3f}-{hits[-1]:.3f} "
            f"{self.real.makespan_s:9.1f} {spans[0]:6.1f}-{spans[-1]:.1f} {100 * self.makespan_error:+5.0f} % "
            f"{self.real.preemptions:7} {preempted[0]:4}-{preempted[-1]}"
        )


def beyond(real: float, simulated: list[float]) -> float:
    """How far the range of what was simulated is from the real value; 0 if that is in it."""
    return max(0.0, simulated[0] - real) + min(0.0, simulated[-1] - real)


def jittered(workload: Workload, play: int) -> Workload:
    draw = random.Random(play)
    agents = tuple(
        agent.model_copy(update={"start_seconds": agent.start_seconds + (draw.uniform(0, JITTER_S) if play else 0.0)})
        for agent in workload.agents
    )
    return replace(workload, agents=agents)


def simulate(workload: Workload, controller: str, profile: EngineProfile) -> tuple[RunResult, ...]:
    return tuple(
        run_simulated(jittered(workload, play), controller, profile, on_progress=lambda _: None, poll_interval_s=POLL_S)
        for play in range(PLAYS)
    )


HEAD = "load             control.  over  hit real    simulated   seconds  simulated  beyond preempt. sim."


async def fitted(server: LiveServer) -> EngineProfile:
    calibration = await calibrate(server, on_progress=lambda _: None, limits=LIMITS)
    log.info("%s, request_latency=%.4f", calibration.profile.step_time, calibration.profile.request_latency)
    for probe in calibration.probes:
        log.info("%-22s %8.3f s, explained as %8.3f s", probe.name, probe.measured_s, probe.predicted_s)
    return calibration.profile


async def play(server: LiveServer, load: Load, profile: EngineProfile) -> Row:
    name, make, controller = load
    workload = make()
    real = await run_live(workload, controller, server, on_progress=lambda _: None)
    plays = await asyncio.to_thread(simulate, workload, controller, profile)
    row = Row(name, controller, workload.info(profile.capacity_tokens).oversubscription, real, plays)
    log.info("%s", row)
    return row


async def test_the_fitted_engine_predicts_the_real_one(vllm_server):
    rows: dict[Load, Row] = {}
    async with open_server(vllm_server.url, model_name=None, api_key="EMPTY") as server:
        for _ in range(ROUNDS):
            to_play = [load for load in LOADS if load not in rows or rows[load].is_off]
            if to_play:
                profile = await fitted(server)
                for load in to_play:
                    rows[load] = await play(server, load, profile)
    log.info("\n%s", "\n".join([HEAD, *map(str, rows.values())]))

    assert all(row.real.failed_agents == 0 for row in rows.values())
    assert [miss for row in rows.values() for miss in row.misses] == []
    errors = [abs(row.makespan_error) for row in rows.values()]
    assert median(errors) <= MAKESPAN_WITHIN
    assert max(errors) <= NEVER_BEYOND
