"""One run: a workload through a gate on a live server, and what was measured."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING

from concur_agents.replay.agent import Replay, build_graph, recursion_limit
from concur_agents.replay.counted import Counters
from concur_agents.replay.gates import make_gate
from concur_agents.replay.prompt import Conversation
from concur_agents.replay.recorder import AgentNotes, Recorder
from concur_agents.replay.server import ReplayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from concur_agents.replay.gates import LiveGate, LiveGateMaker
    from concur_agents.replay.progress import Progress
    from concur_agents.replay.results import RunResult
    from concur_agents.replay.server import LiveServer
    from concur_agents.replay.trace import AgentTrace
    from concur_agents.replay.workload import Workload

# Half of the gate's default: short runs have enough pages, and a reader of /metrics is not felt. [s]
POLL_S = 0.5
# Twice as often as pages come, so that none is missed. [s]
SAMPLE_S = POLL_S / 2
IDLE_LIMIT_S = 300.0


async def run_live(
    workload: Workload,
    controller: str,
    server: LiveServer,
    *,
    on_progress: Callable[[Progress], None],
    idle_limit_s: float = IDLE_LIMIT_S,
    gate: LiveGateMaker | None = None,
) -> RunResult:
    """Replay a workload once: every agent a LangGraph graph, every turn a request, all through one gate.

    The run starts when nothing runs or waits on the server, and has a `cache_salt` of its own, so that it finds
    nothing that others left in the prefix cache. An agent that fails is counted; the others go on.

    Args:
        workload: What to replay.
        controller: The gate's controller, as `parse_controller` takes it.
        server: Where.
        on_progress: Called a few times a second.
        idle_limit_s: How long to wait for the server to become idle. [s]
        gate: Makes another gate than ours; `controller` is then only its name in the results.

    Raises:
        ReplayError: If the server does not become idle, or every agent fails.
        MetricsError: If the server's metrics cannot be had before or after the run.
        ValueError: If there is no such controller.
    """
    recorder = Recorder(workload, controller)
    on_progress(recorder.progress(None))
    await server.wait_until_idle(idle_limit_s)
    before = await server.readings()
    async with _gate(gate, server, controller) as door:
        run = _Run(workload, door, server, recorder)
        recorder.begin()
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(door, recorder, on_progress))
            await asyncio.wait([tasks.create_task(run.root(agent)) for agent in workload.roots])
            recorder.end()
            watch.cancel()
        recorder.sample(door)
        on_progress(recorder.progress(door))
    await server.wait_until_idle(idle_limit_s)
    counted = Counters.between(before, await server.readings())
    if recorder.failed == len(workload.agents):
        raise ReplayError(
            f"all {recorder.failed} agents failed under {controller}, the first with: {recorder.first_error}"
        )
    if not recorder.output_tokens:
        raise ReplayError(f"{server.info.url} generated no token under {controller}")
    return recorder.result(counted, max_wait_s=door.stats().longest_wait_s)


def _gate(make: LiveGateMaker | None, server: LiveServer, controller: str) -> LiveGate:
    if make is not None:
        return make(server.metrics_text, POLL_S)
    return make_gate(server.url, controller, poll_interval_s=POLL_S, fetch_metrics=server.fetch_metrics)


class _Run:
    """A workload on its way."""

    def __init__(self, workload: Workload, gate: LiveGate, server: LiveServer, recorder: Recorder) -> None:
        self._workload = workload
        self._server = server
        self._recorder = recorder
        self._agents = {agent.agent_id: agent for agent in workload.agents}
        self._numbers = {id(agent): number for number, agent in enumerate(workload.agents)}  # names may be there twice
        # What the gate learns it learns by kind, and agents of one prefix group are alike.
        compiled = build_graph(gate.openai(server.client), server.info.model, cache_salt=uuid.uuid4().hex)
        groups = {agent.prefix_group for agent in workload.agents}
        self._graphs = {group: gate.graph(compiled, kind=group) for group in groups}

    async def root(self, agent: AgentTrace) -> None:
        """An agent that nobody spawns: the time that it has its place is that of all it spawns."""
        await self._run(agent, has_place=True)

    async def spawned(self, agent: AgentTrace) -> None:
        await self._run(agent, has_place=False)

    async def _spawn(self, names: tuple[str, ...]) -> None:
        await asyncio.gather(*(self.spawned(self._agents[name]) for name in names))

    async def _run(self, agent: AgentTrace, *, has_place: bool) -> None:
        """Run an agent to its end, and note how it ended."""
        loop = asyncio.get_running_loop()
        notes = AgentNotes(agent.agent_id)
        await asyncio.sleep(agent.start_seconds)
        conversation = Conversation(agent, self._numbers[id(agent)], seed=self._workload.shape.seed)
        replay = Replay(conversation, partial(self._recorder.note_turn, notes), loop.time(), self._spawn)
        told = None
        try:
            await self._graphs[agent.prefix_group].ainvoke(
                {"replay": replay, "step": 0},
                {"run_name": agent.agent_id, "recursion_limit": recursion_limit(len(agent.steps))},
            )
        except Exception as error:  # noqa: BLE001  one agent's failure, of whatever kind, is a figure of the run
            told = self._server.told(error)
        active_s = loop.time() - replay.since - notes.waited_s if has_place else 0.0
        self._recorder.note_agent(notes, active_s, told)


async def _watch(gate: LiveGate, recorder: Recorder, on_progress: Callable[[Progress], None]) -> None:
    while True:
        recorder.sample(gate)
        on_progress(recorder.progress(gate))
        await asyncio.sleep(SAMPLE_S)
