"""A run as a trace, written while it goes on: token counts and times, no text."""

from __future__ import annotations

import gzip
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.telemetry.until_closed import UntilClosed

if TYPE_CHECKING:
    import os
    from typing import TextIO

    from concur_agents.agent import Agent, Turn
    from concur_agents.gate import ConcurGate

log = logging.getLogger("concur_agents")

SOURCE = "concur-agents recording"


@dataclass(slots=True, eq=False)
class _Run:
    """An agent so far.

    Attributes:
        name: Its name in the trace.
        kind: Its kind.
        asked_s: When it asked for its place. [s]
        parent: The agent that it was started in.
        steps: Its turns that told their tokens.
        running: Turns in flight.
        idle_since: When its last turn ended; None before that. [s]
        children: Agents started in it since then.
        is_a_step: Whether its parent has not begun another turn since it started, so that it may be what a step of
            the parent spawned.
        over: Whether it has finished.
        shared_prefix: What its kind shares. [tokens]
    """

    name: str
    kind: str
    asked_s: float
    parent: _Run | None
    steps: list[TraceStep] = field(default_factory=list)
    running: int = 0
    idle_since: float | None = None
    children: list[_Run] = field(default_factory=list)
    is_a_step: bool = False
    over: bool = False
    shared_prefix: int = 0


class Recording(UntilClosed):
    """Writes what the agents of a gate do, from when it is made until it or the gate is closed.

    An agent started inside another, and over before that one's next turn, is written as spawned by the turn before. A
    turn that told no tokens is left out. How much of a prompt was kept from the turn before is what the gate expects
    of the agent's kind, or what the server had cached if that is more.

    Args:
        gate: The gate.
        path: A `.jsonl` or `.jsonl.gz` file; what is there is replaced.

    Attributes:
        path: The file.
        agents: How many have been written.
        left_out: Turns that told no tokens.

    Raises:
        ValueError: If the name ends otherwise.
        OSError: If it cannot be written.
    """

    def __init__(self, gate: ConcurGate, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.agents = 0
        self.left_out = 0
        if not self.path.name.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError(f"{self.path}: a recording is a .jsonl or .jsonl.gz file, such as run.jsonl")
        self._gate = gate
        self._began = gate.now()
        self._runs: dict[Agent, _Run] = {}
        self._names: dict[str, int] = {}
        self._file: TextIO | None = (
            gzip.open(self.path, "wt", encoding="utf-8")  # noqa: SIM115  open until the run is over
            if self.path.suffix == ".gz"
            else self.path.open("w", encoding="utf-8")
        )
        gate.add_listener(self)

    def close(self) -> None:
        """Write what is unfinished as far as it came, and close the file; may be called again."""
        if self._file is None:
            return
        self._gate.remove_listener(self)
        try:
            for agent, run in self._runs.items():
                self._let_go_of_children(run)
                run.shared_prefix = agent.shared_prefix
                self._write(run)
        finally:
            self._runs.clear()
            self._file.close()
            self._file = None
        log.info("%d agents recorded in %s", self.agents, self.path)

    # ------------------------------------------------------------------ what it hears

    def closed(self) -> None:
        """The gate was closed."""
        self.close()

    def agent_admitted(self, agent: Agent, waited_s: float) -> None:
        """An agent begins."""
        parent = self._runs.get(agent.parent) if agent.parent is not None else None
        run = _Run(self._unused(agent.name), agent.kind, self._gate.now() - waited_s, parent)
        self._runs[agent] = run
        if parent is not None:
            run.is_a_step = bool(parent.steps) and not parent.running
            parent.children.append(run)

    def turn_began(self, turn: Turn, waited_s: float) -> None:
        """A tool wait is over, and with it what was spawned in it."""
        run = self._runs.get(turn.agent)
        if run is None:
            return
        if run.steps and run.idle_since is not None and not run.running:
            spawned = [child for child in run.children if child.over and child.is_a_step and child.steps]
            run.children = [child for child in run.children if child not in spawned]
            run.steps[-1] = run.steps[-1].model_copy(
                update={
                    "tool_seconds": max(0.0, self._gate.now() - waited_s - run.idle_since),
                    "spawns": tuple(child.name for child in spawned),
                }
            )
            for child in spawned:
                self._write(child, since_s=run.idle_since)
            self._let_go_of_children(run)
        run.running += 1

    def turn_ended(self, turn: Turn) -> None:
        """A step."""
        run = self._runs.get(turn.agent)
        if run is None or not run.running:  # it began before the recording
            return
        run.running -= 1
        if turn.dissolved:
            return
        usage = turn.usage
        if usage is None or not usage.prompt_tokens:
            if not self.left_out:
                log.warning("a turn told no tokens: such turns are not in the recording %s", self.path)
            self.left_out += 1
            return
        kept = 0
        if run.steps:
            kept = min(usage.prompt_tokens, max(turn.kept_tokens or 0, usage.cached_tokens or 0))
        run.steps.append(
            TraceStep(
                context_tokens=usage.prompt_tokens,
                new_input_tokens=usage.prompt_tokens - kept,
                output_tokens=usage.completion_tokens,
                reset=bool(run.steps) and usage.prompt_tokens < run.steps[-1].context_tokens,
            )
        )
        run.idle_since = self._gate.now()

    def agent_finished(self, agent: Agent) -> None:
        """An agent is over: written now, or once its parent has gone on."""
        run = self._runs.pop(agent, None)
        if run is None:
            return
        run.over = True
        run.shared_prefix = agent.shared_prefix
        self._let_go_of_children(run)
        if run.parent is None or run not in run.parent.children:
            self._write(run)

    # ------------------------------------------------------------------ the file

    def _let_go_of_children(self, run: _Run) -> None:
        """No step of it has spawned them: they are agents of their own."""
        for child in run.children:
            if child.over:
                self._write(child)
        run.children = []

    def _write(self, run: _Run, *, since_s: float | None = None) -> None:
        if not run.steps or self._file is None:
            return
        trace = AgentTrace(
            agent_id=run.name,
            source=SOURCE,
            parent=run.parent.name if run.parent is not None else None,
            prefix_group=run.kind,
            shared_prefix_tokens=min(run.shared_prefix, run.steps[0].context_tokens),
            tokens="exact, but what a prompt kept is as expected of its kind",
            start_seconds=max(0.0, run.asked_s - (self._began if since_s is None else since_s)),
            steps=tuple(run.steps),
        )
        self._file.write(trace.model_dump_json(exclude_defaults=True) + "\n")
        self._file.flush()
        self.agents += 1

    def _unused(self, name: str) -> str:
        """The name, with a number if another agent had it already: a trace tells agents by their names."""
        self._names[name] = count = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"
