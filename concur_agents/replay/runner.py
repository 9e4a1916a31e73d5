"""One run: a workload through a gate on a live server, and what was measured."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from concur_agents import ConcurGate
from concur_agents.control import parse_controller
from concur_agents.replay.agent import Replay, Turn, build_graph, recursion_limit
from concur_agents.replay.progress import Progress
from concur_agents.replay.prompt import Conversation
from concur_agents.replay.results import RunResult, percentile
from concur_agents.replay.server import Counters, ReplayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from concur_agents.replay.server import LiveServer
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

    Raises:
        ReplayError: If the server does not become idle, or every agent fails.
        MetricsError: If the server's metrics cannot be had before or after the run.
        ValueError: If there is no such controller.
    """
    run = _Run(workload, controller, on_progress)
    on_progress(run.progress(None))
    await server.wait_until_idle(idle_limit_s)
    before = await server.readings()
    # What CONCUR_* variables say of gates in general is not to bend a comparison.
    gate = ConcurGate(
        server.url,
        controller=parse_controller(controller),
        poll_interval_s=POLL_S,
        mode="enforce",
        disabled=False,
        max_agents=None,
        turns_per_second=None,
    )
    async with gate:
        await run.go(gate, server)
    await server.wait_until_idle(idle_limit_s)
    counted = Counters.between(before, await server.readings())
    if run.failed == len(workload.agents):
        raise ReplayError(f"all {run.failed} agents failed under {controller}, the first with: {run.first_error}")
    if not run.output_tokens:
        raise ReplayError(f"{server.info.url} generated no token under {controller}")
    return run.result(counted, max_wait_s=gate.stats().longest_wait_s)


class _Run:
    """What is noted while a run goes on."""

    def __init__(self, workload: Workload, controller: str, on_progress: Callable[[Progress], None]) -> None:
        self.workload = workload
        self.controller = controller
        self.failed = 0
        self.first_error: str | None = None
        self._on_progress = on_progress
        self._turns: list[Turn] = []
        self.output_tokens = 0
        self._agents_done = 0
        self._active_s = 0.0
        self._began = 0.0
        self._makespan_s = 0.0
        self._usages: dict[float, float] = {}

    async def go(self, gate: ConcurGate, server: LiveServer) -> None:
        """Run all agents to their ends."""
        loop = asyncio.get_running_loop()
        client = gate.openai(server.client)
        # What the gate learns it learns by kind, and agents of one prefix group are alike.
        compiled = build_graph(client, server.info.model, cache_salt=uuid.uuid4().hex)
        groups = {agent.prefix_group for agent in self.workload.agents}
        graphs = {group: gate.graph(compiled, kind=group) for group in groups}
        self._began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(gate))
            await asyncio.wait(
                [
                    tasks.create_task(
                        self._run_agent(
                            server,
                            graphs[agent.prefix_group],
                            Conversation(agent, number, seed=self.workload.shape.seed),
                        )
                    )
                    for number, agent in enumerate(self.workload.agents)
                ]
            )
            self._makespan_s = loop.time() - self._began
            watch.cancel()
        self._sample(gate)

    async def _run_agent(self, server: LiveServer, graph: Any, conversation: Conversation) -> None:
        loop = asyncio.get_running_loop()
        replay = Replay(conversation, self._note_turn, since=loop.time())
        agent = conversation.agent
        try:
            await graph.ainvoke(
                {"replay": replay, "step": 0},
                {"run_name": agent.agent_id, "recursion_limit": recursion_limit(len(agent.steps))},
            )
        except Exception as error:  # noqa: BLE001  one agent's failure, of whatever kind, is a figure of the run
            self.failed += 1
            self.first_error = self.first_error or server.told(error)
        self._agents_done += 1
        self._active_s += loop.time() - replay.since - sum(replay.waits)

    def _note_turn(self, turn: Turn) -> None:
        self._turns.append(turn)
        self.output_tokens += turn.output_tokens

    async def _watch(self, gate: ConcurGate) -> None:
        while True:
            self._sample(gate)
            await asyncio.sleep(SAMPLE_S)

    def _sample(self, gate: ConcurGate) -> None:
        snapshot = gate.snapshot
        if snapshot is not None and snapshot.usage is not None and snapshot.time >= self._began:
            self._usages[snapshot.time] = snapshot.usage
        self._on_progress(self.progress(gate))

    def progress(self, gate: ConcurGate | None) -> Progress:
        """How far it is; without a gate, it has not begun."""
        elapsed = asyncio.get_running_loop().time() - self._began if gate is not None else 0.0
        stats = gate.stats() if gate is not None else None
        return Progress(
            controller=self.controller,
            waiting_for_server=gate is None,
            elapsed_s=elapsed,
            agents_done=self._agents_done,
            agents=len(self.workload.agents),
            turns_done=len(self._turns),
            turns=self.workload.turns,
            active=stats.active if stats else 0,
            paused=stats.paused if stats else 0,
            queued=stats.queued if stats else 0,
            hit_rate=stats.hit_rate if stats else None,
            output_tokens_per_s=self.output_tokens / elapsed if elapsed else 0.0,
        )

    def result(self, counted: Counters, *, max_wait_s: float) -> RunResult:
        """What was measured, at the end."""
        per_token = [turn.took_s / turn.output_tokens for turn in self._turns if turn.output_tokens]
        usages = list(self._usages.values())
        return RunResult(
            controller=self.controller,
            makespan_s=self._makespan_s,
            output_tokens=self.output_tokens,
            output_tokens_per_s=self.output_tokens / self._makespan_s,
            hit_rate=counted.hits / counted.queries if counted.hits is not None and counted.queries else None,
            prompt_tokens=_whole(counted.prompt_tokens),
            computed_prompt_tokens=_whole(counted.computed_prompt_tokens),
            preemptions=_whole(counted.preemptions),
            mean_active_agents=self._active_s / self._makespan_s,
            kv_usage_mean=sum(usages) / len(usages) if usages else None,
            kv_usage_peak=max(usages) if usages else None,
            p50_time_per_output_token_s=percentile(per_token, 0.5),
            p99_time_per_output_token_s=percentile(per_token, 0.99),
            max_wait_s=max_wait_s,
            turns=len(self._turns),
            failed_agents=self.failed,
            first_error=self.first_error,
        )


def _whole(count: float | None) -> int | None:
    return None if count is None else round(count)
