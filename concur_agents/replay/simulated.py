"""One run in virtual time: a workload through a real gate on the embedded engine, and what was measured.

The agents are plain coroutines that call the engine in this process: what LangGraph and an HTTP client would add costs
milliseconds of computing a turn and changes nothing in what the engine sees.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from concur_agents.replay.counted import Counters
from concur_agents.replay.gates import make_gate
from concur_agents.replay.recorder import AgentNotes, Recorder, Turn
from concur_agents.replay.results import EngineInfo
from concur_agents.replay.segments import SegmentConversation
from concur_agents.simulation.metrics_page import MetricsPage
from concur_agents.simulation.running import RunningEngine
from concur_agents.simulation.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from concur_agents.replay.gates import GateMaker, RunGate
    from concur_agents.replay.progress import Progress
    from concur_agents.replay.results import RunResult
    from concur_agents.replay.trace import AgentTrace
    from concur_agents.replay.workload import Workload
    from concur_agents.simulation.profile import EngineProfile

URL = "http://embedded.engine"
POLL_S = 1.0
"""The gate's default. [s]"""
SHOW_EVERY_S = 0.2
"""Real time between two reports of progress: a run may pass thousands of virtual seconds in one. [s]"""


def run_simulated(
    workload: Workload,
    controller: str,
    profile: EngineProfile,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    poll_interval_s: float = POLL_S,
    gate: GateMaker | None = None,
) -> RunResult:
    """Run a workload once on a new engine, in virtual time; the same arguments give the same result.

    Args:
        workload: What to run.
        controller: The gate's controller, as `parse_controller` takes it.
        profile: The engine.
        on_progress: Called a few times a second of real time.
        poll_interval_s: Time between the gate's looks at the engine. [virtual s]
        gate: Makes another gate than ours; `controller` is then only its name in the results.

    Raises:
        ValueError: If there is no such controller, or the engine cannot take one of the calls.
    """
    try:
        simulation = _Simulation(
            workload, controller, profile, on_progress=on_progress, poll_interval_s=poll_interval_s, gate=gate
        )
        return run(simulation.main())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # what ended the run; the others, if any, failed in the same instant


def engine_info(profile: EngineProfile) -> EngineInfo:
    """What is written of an embedded engine into the results."""
    return EngineInfo(
        url=None,
        model=profile.name,
        simulated=profile.description,
        capacity_tokens=profile.capacity_tokens,
        block_size=profile.block_size,
        max_model_len=profile.max_model_len,
    )


class _Simulation:
    def __init__(
        self,
        workload: Workload,
        controller: str,
        profile: EngineProfile,
        *,
        on_progress: Callable[[Progress], None],
        poll_interval_s: float,
        gate: GateMaker | None,
    ) -> None:
        self._workload = workload
        self._controller = controller
        self._profile = profile
        self._on_progress = on_progress
        self._poll_interval_s = poll_interval_s
        self._make = gate
        self._recorder = Recorder(workload, controller)
        self._agents = {agent.agent_id: agent for agent in workload.agents}
        self._numbers = {id(agent): number for number, agent in enumerate(workload.agents)}  # names may be there twice

    async def main(self) -> RunResult:
        profile, recorder = self._profile, self._recorder
        self._engine = RunningEngine(profile.engine())
        self._on_progress(recorder.progress(None))

        page = MetricsPage(self._engine.engine, model=profile.name, created=0.0)

        async def fetch() -> str:
            return page.render(self._engine.counters())

        async with self._gate(fetch) as gate:
            recorder.begin()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch(gate))
                await asyncio.wait([tasks.create_task(self._root(gate, root)) for root in self._workload.roots])
                recorder.end()
                watch.cancel()
            recorder.sample(gate)
            self._on_progress(recorder.progress(gate))
        counters = self._engine.counters()
        return recorder.result(
            Counters(
                queries=counters.prefix_cache_queries,
                hits=counters.prefix_cache_hits,
                prompt_tokens=counters.prompt_tokens,
                computed_prompt_tokens=counters.prompt_tokens_computed,
                preemptions=counters.num_preemptions,
            ),
            max_wait_s=gate.stats().longest_wait_s,
        )

    def _gate(self, fetch: Callable[[], Awaitable[str]]) -> RunGate:
        if self._make is not None:
            return self._make(fetch, self._poll_interval_s)
        return make_gate(URL, self._controller, poll_interval_s=self._poll_interval_s, fetch_metrics=fetch)

    async def _root(self, gate: RunGate, agent: AgentTrace) -> None:
        """An agent that nobody spawns: the time that it has its place is that of all it spawns."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(agent.start_seconds)
        since = loop.time()
        notes = await self._run(gate, agent)
        self._recorder.note_agent(notes, loop.time() - since - notes.waited_s)

    async def _spawned(self, gate: RunGate, agent: AgentTrace) -> None:
        await asyncio.sleep(agent.start_seconds)
        self._recorder.note_agent(await self._run(gate, agent), 0.0)

    async def _run(self, gate: RunGate, agent: AgentTrace) -> AgentNotes:
        """Run an agent to its end; returns what was noted of it."""
        loop = asyncio.get_running_loop()
        recorder = self._recorder
        conversation = SegmentConversation(agent, self._numbers[id(agent)])
        asked = loop.time()
        notes = AgentNotes(agent.agent_id)
        async with gate.agent(agent.agent_id, kind=agent.prefix_group) as place:
            for index, step in enumerate(agent.steps):
                async with place.turn() as turn:
                    sent = loop.time()
                    turn.expect(step.context_tokens)  # as the OpenAI client tells it, if more exactly
                    if self._profile.request_latency:
                        await asyncio.sleep(self._profile.request_latency)
                    request = await self._engine.generate(conversation.prompt(step), step.output_tokens)
                    turn.report(
                        prompt_tokens=request.prompt_tokens,
                        completion_tokens=request.generated,
                        cached_tokens=request.cached_tokens,
                    )
                conversation.answered(request)
                context = request.prompt_tokens + request.generated
                recorder.note_turn(notes, Turn(sent - asked, loop.time() - sent, request.generated, context))
                if step.spawns:
                    await asyncio.gather(*(self._spawned(gate, self._agents[name]) for name in step.spawns))
                elif index + 1 < len(agent.steps):
                    await asyncio.sleep(step.tool_seconds or 0.0)
                asked = loop.time()
        return notes

    async def _watch(self, gate: RunGate) -> None:
        shown = 0.0
        while True:
            self._recorder.sample(gate)
            now = time.monotonic()  # people watch in real time
            if now >= shown + SHOW_EVERY_S:
                shown = now
                self._on_progress(self._recorder.progress(gate))
            await asyncio.sleep(self._poll_interval_s)
