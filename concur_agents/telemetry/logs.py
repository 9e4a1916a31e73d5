"""A gate's agents as log records: a sentence for people, and the numbers beside it for programs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from concur_agents.telemetry.until_closed import UntilClosed

if TYPE_CHECKING:
    from concur_agents.agent import Agent
    from concur_agents.gate import ConcurGate

log = logging.getLogger("concur_agents")


def log_agents(gate: ConcurGate, *, level: int = logging.INFO) -> AgentLog:
    """Log each agent of a gate when it gets its place, when it is over, and when it gave up waiting.

    The records go to the logger `concur_agents`, as the gate's decisions do. Each has its numbers in `record.agent`, a
    decision in `record.decision`: whatever formatter writes `extra` fields gets numbers rather than text.

    Args:
        gate: The gate.
        level: Their level.

    Returns:
        What ends it again: `close()`, or `with`.
    """
    return AgentLog(gate, level)


class AgentLog(UntilClosed):
    """The records of one gate's agents, until closed. Made by `log_agents`.

    Args:
        gate: The gate.
        level: The level of the records.
    """

    def __init__(self, gate: ConcurGate, level: int) -> None:
        self._gate = gate
        self._level = level
        self._waited_s: dict[Agent, float] = {}
        gate.add_listener(self)

    def close(self) -> None:
        """Log no more; may be called again."""
        self._gate.remove_listener(self)
        self._waited_s.clear()

    def agent_admitted(self, agent: Agent, waited_s: float) -> None:
        """An agent got its place."""
        self._waited_s[agent] = waited_s
        if agent.parent is not None:
            self._log("agent %r shares the place of %r", agent.name, agent.parent.name, agent=_who(agent))
        else:
            self._log(
                "agent %r admitted after %.1f s", agent.name, waited_s, agent=_who(agent) | {"waited_s": waited_s}
            )

    def agent_gave_up(self, name: str, kind: str, waited_s: float) -> None:
        """An agent left the queue without a place."""
        self._log(
            "agent %r gave up after %.1f s in the queue",
            name,
            waited_s,
            agent={"name": name, "kind": kind, "waited_s": waited_s},
        )

    def agent_finished(self, agent: Agent) -> None:
        """An agent is over."""
        self._log(
            "agent %r finished: %d turns, %d prompt tokens (%d cached), %d output tokens",
            agent.name,
            agent.turns,
            agent.prompt_tokens,
            agent.cached_tokens,
            agent.output_tokens,
            agent=_who(agent)
            | {
                "waited_s": self._waited_s.pop(agent, None),
                "tool_wait_s": agent.tool_wait_s,
                "turns": agent.turns,
                "prompt_tokens": agent.prompt_tokens,
                "cached_tokens": agent.cached_tokens,
                "output_tokens": agent.output_tokens,
                "reusable_tokens": agent.reusable_tokens,
                "recomputed_tokens": agent.recomputed_tokens,
            },
        )

    def _log(self, message: str, *args: object, agent: dict[str, object]) -> None:
        log.log(self._level, message, *args, extra={"agent": agent})


def _who(agent: Agent) -> dict[str, object]:
    return {
        "name": agent.name,
        "kind": agent.kind,
        "session_id": agent.session_id,
        "parent": agent.parent.name if agent.parent is not None else None,
    }
