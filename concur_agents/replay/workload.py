"""A workload: the agents of a trace, shaped, and what can be said of them before they run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from concur_agents.replay.family import families
from concur_agents.replay.generated import generate
from concur_agents.replay.results import WorkloadInfo
from concur_agents.replay.shape import sample
from concur_agents.replay.trace import read_traces

if TYPE_CHECKING:
    from concur_agents.replay.shape import Shape
    from concur_agents.replay.trace import AgentTrace

_GENERATED = "workload:"


@dataclass(frozen=True, slots=True)
class Workload:
    """Agents to replay, as a run takes them.

    Attributes:
        source: Where they come from, as shown to people.
        shape: How the trace was changed.
        agents: The agents, at least one, in the order in which those that start at the same time ask for a
            place. Those that others spawn come after the agent that spawns them, and wait for it.
    """

    source: str
    shape: Shape
    agents: tuple[AgentTrace, ...]

    @classmethod
    def load(cls, source: str, shape: Shape) -> Workload:
        """Read or generate agents, and shape them.

        Args:
            source: A trace file, or `workload:NAME` for one of `concur_agents.replay.generated.WORKLOADS`. Of
                these, `shape` says how many agents are made and from which seed; they stay in their order.
            shape: How the agents are changed.

        Raises:
            TraceError: If a file cannot be read, a line of it is wrong, there is no such workload, or nothing
                is left of the agents.
        """
        if not source.startswith(_GENERATED):
            return cls(Path(source).name, shape, tuple(shape.apply(read_traces(source))))
        made = generate(source.removeprefix(_GENERATED), shape.agents, shape.seed)
        agents = replace(shape, agents=None).apply(made)
        if shape.agents is not None and len(families(agents)) < shape.agents:
            agents = sample(agents, shape.agents, shape.seed)
        return cls(source, shape, tuple(agents))

    @property
    def turns(self) -> int:
        """The calls of all agents."""
        return sum(len(agent.steps) for agent in self.agents)

    @property
    def roots(self) -> tuple[AgentTrace, ...]:
        """The agents that nobody spawns."""
        return tuple(family[0] for family in families(self.agents))

    @property
    def longest(self) -> int:
        """How many tokens the longest prompt and output of any call have."""
        return max(step.context_tokens + step.output_tokens for agent in self.agents for step in agent.steps)

    def info(self, capacity_tokens: int | None) -> WorkloadInfo:
        """What is written of it into the results.

        Args:
            capacity_tokens: The server's KV tokens, None if it does not say.
        """
        last = sum(agent.steps[-1].context_tokens for agent in self.agents)
        floor, ideal = _hit_rates(self.agents)
        return WorkloadInfo(
            source=self.source,
            agents=len(self.agents),
            turns=self.turns,
            output_tokens=sum(step.output_tokens for agent in self.agents for step in agent.steps),
            oversubscription=last / capacity_tokens if capacity_tokens else None,
            hit_rate_floor=floor,
            hit_rate_ideal=ideal,
            seed=self.shape.seed,
            scale=self.shape.scale,
            scale_output=self.shape.scale_output,
            scale_tools=self.shape.scale_tools,
            max_context=self.shape.max_context,
        )


def _hit_rates(agents: tuple[AgentTrace, ...]) -> tuple[float, float]:
    """The hit rate with the shared prefix alone in the cache, and with everything in it."""
    prompts = shared = kept = 0
    groups: set[str] = set()
    for agent in agents:
        for index, step in enumerate(agent.steps):
            opening = min(agent.shared_prefix_tokens, step.context_tokens if index == 0 else step.kept_tokens)
            found = step.kept_tokens if index else opening
            if index == 0 and agent.prefix_group not in groups:
                groups.add(agent.prefix_group)  # nobody was here before the first of a group
                opening = found = 0
            prompts += step.context_tokens
            shared += opening
            kept += found
    return shared / prompts, kept / prompts
