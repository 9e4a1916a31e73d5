"""Leads that start sub-agents, await them and read their reports."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from concur_agents.replay.generated.agents import Draws, grow, within
from concur_agents.replay.generated.profiles import LEAD_CALLS, REPORT, ROUNDS, SEARCH, SUBAGENT_CALLS, SUBAGENTS
from concur_agents.replay.trace import AgentTrace, TraceStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from concur_agents.replay.family import Family

_NAME = "fan-out"


def fan_out(seed: int) -> Iterator[Family]:
    """Leads without end, each followed by its sub-agents.

    A lead makes some calls of its own, the last of which spawns a round of sub-agents; so for each round, and
    then some calls more. Its prompt after a round has the last outputs of the round's sub-agents in place of a
    tool's result. All are search agents; the sub-agents share an opening that is not the leads'.
    """
    for number in itertools.count():
        name = f"{_NAME}-{number}"
        draws = Draws(seed, _NAME, number)
        rounds: list[Family] = []
        spawning: dict[int, Family] = {}
        calls = 0
        for _ in range(draws.between(ROUNDS)):
            calls += draws.between(LEAD_CALLS)
            started = sum(map(len, rounds))
            rounds.append(tuple(_subagent(seed, name, started + k) for k in range(draws.between(SUBAGENTS))))
            spawning[calls - 1] = rounds[-1]
        calls += draws.between(LEAD_CALLS)
        lead = AgentTrace(
            agent_id=name,
            steps=_with_reports(grow(SEARCH, draws, calls), spawning),
            source=f"workload:{_NAME}",
            prefix_group=_NAME,
            shared_prefix_tokens=SEARCH.shared,
            tokens="generated",
        )
        yield within((lead, *itertools.chain.from_iterable(rounds)), SEARCH.window)


def _subagent(seed: int, lead: str, number: int) -> AgentTrace:
    draws = Draws(seed, lead, number)
    calls = draws.between(SUBAGENT_CALLS)
    agent = AgentTrace(
        agent_id=f"{lead}.{number}",
        steps=grow(SEARCH, draws, calls, last_output=draws.between(REPORT)),
        source=f"workload:{_NAME}",
        parent=lead,
        prefix_group=f"{_NAME}-subagent",
        shared_prefix_tokens=SEARCH.shared,
        tokens="generated",
    )
    return within((agent,), SEARCH.window)[0]


def _with_reports(steps: tuple[TraceStep, ...], spawning: dict[int, Family]) -> tuple[TraceStep, ...]:
    """A lead's calls with rounds of sub-agents after some of them, instead of a tool."""
    made: list[TraceStep] = []
    longer = 0  # than drawn, by the reports so far
    for number, step in enumerate(steps):
        new = step.new_input_tokens
        before = spawning.get(number - 1)
        if before:
            new = sum(subagent.steps[-1].output_tokens for subagent in before)
            longer += new - step.new_input_tokens
        update: dict[str, object] = {"context_tokens": step.context_tokens + longer, "new_input_tokens": new}
        if number in spawning:
            update |= {"tool_seconds": None, "spawns": tuple(agent.agent_id for agent in spawning[number])}
        made.append(step.model_copy(update=update))
    return tuple(made)
