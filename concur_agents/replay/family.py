"""Agents that spawn agents: who belongs to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.replay.trace import AgentTrace, TraceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Family = tuple[AgentTrace, ...]


def families(agents: Sequence[AgentTrace]) -> list[Family]:
    """Every agent that nobody spawns, in their order, each followed by those it spawns and those they spawn.

    An agent that spawns nobody and is spawned by nobody is a family of one.

    Raises:
        TraceError: If an agent spawns one that is not there, that is there twice, that says another
            `parent`, or that is spawned twice; or if agents spawn each other in a circle.
    """
    if not any(step.spawns for agent in agents for step in agent.steps):
        return [(agent,) for agent in agents]
    named = {agent.agent_id: agent for agent in agents}
    spawned = _spawned(agents, named)
    found = [tuple(_reachable(agent, named)) for agent in agents if agent.agent_id not in spawned]
    if sum(map(len, found)) < len(agents):
        reached = {agent.agent_id for family in found for agent in family}
        left = next(agent.agent_id for agent in agents if agent.agent_id not in reached)
        raise TraceError(f"agent {left} is spawned in a circle: let one agent of it be spawned by nobody")
    return found


def _spawned(agents: Sequence[AgentTrace], named: dict[str, AgentTrace]) -> set[str]:
    """The names of the agents that are spawned; every one of them once, by its parent."""
    doubled = {agent.agent_id for agent in agents if named[agent.agent_id] is not agent}
    spawned: set[str] = set()
    for agent in agents:
        for name in _names(agent):
            if name not in named:
                raise TraceError(f"agent {agent.agent_id} spawns {name}, which is not in the trace")
            if name in doubled or agent.agent_id in doubled:
                raise TraceError(f"agent {agent.agent_id} spawns {name}, and one of the two names is there twice")
            if name in spawned:
                raise TraceError(f"agent {name} is spawned twice: give every run a name of its own")
            if named[name].parent != agent.agent_id:
                raise TraceError(
                    f"agent {agent.agent_id} spawns {name}, whose parent is {named[name].parent}: make them agree"
                )
            spawned.add(name)
    return spawned


def _names(agent: AgentTrace) -> Iterable[str]:
    return (name for step in agent.steps for name in step.spawns)


def _reachable(root: AgentTrace, named: dict[str, AgentTrace]) -> list[AgentTrace]:
    reached = [root]
    for agent in reached:
        reached += (named[name] for name in _names(agent))
    return reached


def without(family: Family, gone: set[str]) -> Family:
    """What is left of a family when some of its agents do not run: nobody spawns them, nor those they spawn."""
    kept = [
        agent
        if gone.isdisjoint(_names(agent))
        else agent.model_copy(
            update={
                "steps": tuple(
                    step.model_copy(update={"spawns": tuple(name for name in step.spawns if name not in gone)})
                    for step in agent.steps
                )
            }
        )
        for agent in family
        if agent.agent_id not in gone
    ]
    return tuple(_reachable(kept[0], {agent.agent_id: agent for agent in kept}))


def renamed(family: Family, ending: str) -> Family:
    """The same family with `ending` after every name in it."""
    names = {agent.agent_id: f"{agent.agent_id}{ending}" for agent in family}
    return tuple(
        agent.model_copy(
            update={
                "agent_id": names[agent.agent_id],
                "parent": names.get(agent.parent, agent.parent) if agent.parent is not None else None,
                "steps": tuple(
                    step.model_copy(update={"spawns": tuple(names[name] for name in step.spawns)})
                    if step.spawns
                    else step
                    for step in agent.steps
                ),
            }
        )
        for agent in family
    )
