"""What is noted while a run goes on, and what it comes to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.replay.kept import AGENTS, DECISIONS, spread_by_size, telling
from concur_agents.replay.progress import Progress
from concur_agents.replay.results import AgentResult, DecisionResult, Moment, RunResult, percentile

if TYPE_CHECKING:
    from concur_agents.replay.counted import Counters
    from concur_agents.replay.gates import RunGate
    from concur_agents.replay.workload import Workload
    from concur_agents.stats import Decision

MOMENTS = 240
"""Moments kept of a run: enough for a picture as wide as a page. From twice as many, every other one is dropped."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished call.

    Attributes:
        waited_s: Held at the gate, before the request. [s]
        took_s: From request to end. [s]
        output_tokens: Generated.
        context_tokens: Prompt and output.
    """

    waited_s: float
    took_s: float
    output_tokens: int
    context_tokens: int


@dataclass(slots=True)
class AgentNotes:
    """What is noted of one agent; `Recorder.note_turn` adds to it.

    Attributes:
        name: As the trace has it.
        turns: Finished ones.
        output_tokens: Generated in them.
        context_tokens: Prompt and output of the last one.
        waited_s: Held at the gate before them. [s]
        took_s: From request to end, all together. [s]
    """

    name: str
    turns: int = 0
    output_tokens: int = 0
    context_tokens: int = 0
    waited_s: float = 0.0
    took_s: float = 0.0

    def add(self, turn: Turn) -> None:
        """A call is over."""
        self.turns += 1
        self.output_tokens += turn.output_tokens
        self.context_tokens = turn.context_tokens
        self.waited_s += turn.waited_s
        self.took_s += turn.took_s

    def result(self, *, failed: bool) -> AgentResult:
        """What is written of it, to the microsecond."""
        return AgentResult(
            name=self.name,
            size_tokens=self.context_tokens,
            turns=self.turns,
            output_tokens=self.output_tokens,
            wait_s=round(self.waited_s, 6),
            time_per_output_token_s=round(self.took_s / self.output_tokens, 6) if self.output_tokens else None,
            failed=failed,
        )


class Recorder:
    """Notes what happens in one run.

    Args:
        workload: What is run.
        controller: The gate's controller, as given.

    Attributes:
        output_tokens: Generated so far. [tokens]
        failed: Agents that ended with an error.
        first_error: What the first of them said.
    """

    def __init__(self, workload: Workload, controller: str) -> None:
        self.output_tokens = 0
        self.failed = 0
        self.first_error: str | None = None
        self._workload = workload
        self._controller = controller
        self._turns: list[Turn] = []
        self._agents: list[AgentResult] = []
        self._decisions: list[Decision] | None = None
        self._active_s = 0.0
        self._began: float | None = None
        self._makespan_s = 0.0
        self._usages: dict[float, float] = {}
        self._moments: list[Moment] = []
        self._every = 1
        self._samples = 0

    def begin(self) -> None:
        """The first agent asks for its place."""
        self._began = asyncio.get_running_loop().time()

    def end(self) -> None:
        """The last agent is over."""
        self._makespan_s = self._elapsed()

    def note_turn(self, agent: AgentNotes, turn: Turn) -> None:
        """A call of an agent is over."""
        agent.add(turn)
        self._turns.append(turn)
        self.output_tokens += turn.output_tokens

    def note_agent(self, agent: AgentNotes, active_s: float, error: str | None = None) -> None:
        """An agent is over.

        Args:
            agent: Which.
            active_s: How long it had a place. [s]
            error: What it said, if it failed.
        """
        self._agents.append(agent.result(failed=error is not None))
        self._active_s += active_s
        if error is not None:
            self.failed += 1
            self.first_error = self.first_error or error

    def sample(self, gate: RunGate) -> None:
        """Look at the gate, and at what the server said last."""
        self._note_decisions(gate)
        snapshot = gate.snapshot
        began = self._began or 0.0
        if snapshot is not None and snapshot.usage is not None and snapshot.time >= began:
            self._usages[snapshot.time] = snapshot.usage
        if self._samples % self._every == 0:
            self._moments.append(self._moment(gate))
            if len(self._moments) == 2 * MOMENTS:
                self._every *= 2
                del self._moments[1::2]
        self._samples += 1

    def _note_decisions(self, gate: RunGate) -> None:
        """Take over what the gate decided since the last look: it keeps only so many."""
        history = gate.history()
        if history is None:
            return
        noted = self._decisions = self._decisions or []
        last = noted[-1] if noted else None
        new: list[Decision] = []
        for decision in reversed(history):
            if decision is last:
                break
            new.append(decision)
        noted.extend(reversed(new))

    def _moment(self, gate: RunGate) -> Moment:
        stats = gate.stats()
        budget = self._decisions[-1].budget if self._decisions else None
        return Moment(
            time_s=self._elapsed(),
            active=stats.active,
            paused=stats.paused,
            queued=stats.queued,
            working_set_tokens=stats.working_set_tokens,
            kv_usage=stats.usage,
            hit_rate=stats.hit_rate,
            output_tokens=self.output_tokens,
            budget_agents=budget.agents if budget else None,
            budget_tokens=budget.tokens if budget else None,
        )

    def progress(self, gate: RunGate | None) -> Progress:
        """How far it is; without a gate, it has not begun."""
        elapsed = self._elapsed() if gate is not None else 0.0
        stats = gate.stats() if gate is not None else None
        return Progress(
            controller=self._controller,
            waiting_for_server=gate is None,
            elapsed_s=elapsed,
            agents_done=len(self._agents),
            agents=len(self._workload.agents),
            turns_done=len(self._turns),
            turns=self._workload.turns,
            active=stats.active if stats else 0,
            paused=stats.paused if stats else 0,
            queued=stats.queued if stats else 0,
            working_set_tokens=stats.working_set_tokens if stats else 0.0,
            capacity_tokens=stats.capacity_tokens if stats else None,
            hit_rate=stats.hit_rate if stats else None,
            output_tokens_per_s=self.output_tokens / elapsed if elapsed else 0.0,
        )

    def result(self, counted: Counters, *, max_wait_s: float) -> RunResult:
        """What was measured, at the end.

        Args:
            counted: What the server counted during the run.
            max_wait_s: The longest wait at the gate. [s]
        """
        per_token = [turn.took_s / turn.output_tokens for turn in self._turns if turn.output_tokens]
        usages = list(self._usages.values())
        return RunResult(
            controller=self._controller,
            seed=self._workload.shape.seed,
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
            timeline=tuple(self._moments),
            agents=spread_by_size(self._agents, AGENTS),
            decisions_made=len(self._decisions) if self._decisions is not None else None,
            decisions=tuple(self._decision(decision) for decision in telling(self._decisions or (), DECISIONS)),
        )

    def _decision(self, decision: Decision) -> DecisionResult:
        return DecisionResult(
            time_s=round(max(0.0, decision.time - (self._began or 0.0)), 6),  # the first is made as the gate opens
            agents=decision.budget.agents,
            tokens=decision.budget.tokens,
            reason=decision.budget.reason,
            active=decision.pool.active,
            waiting=decision.pool.waiting,
            working_set_tokens=decision.pool.working_set_tokens,
            kv_usage=decision.usage,
            hit_rate=decision.hit_rate,
        )

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self._began if self._began is not None else 0.0


def _whole(count: float | None) -> int | None:
    return None if count is None else round(count)
