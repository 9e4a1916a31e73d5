"""A workload: the agents of a trace, shaped, and what can be said of them before they run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from concur_agents.replay.results import WorkloadInfo
from concur_agents.replay.trace import TraceError, read_traces

if TYPE_CHECKING:
    from concur_agents.replay.shape import Shape
    from concur_agents.replay.trace import AgentTrace


@dataclass(frozen=True, slots=True)
class Workload:
    """Agents to replay, as a run takes them.

    Attributes:
        source: Where they come from, as shown to people.
        shape: How the trace was changed.
        agents: The agents, in the order in which they ask for a place; at least one.
    """

    source: str
    shape: Shape
    agents: tuple[AgentTrace, ...]

    @classmethod
    def load(cls, source: str, shape: Shape) -> Workload:
        """Read and shape a trace file.

        Raises:
            TraceError: If it cannot be read, a line of it is wrong, or nothing of it is left.
        """
        if source.startswith("workload:"):
            raise TraceError(
                f"{source}: generated workloads come with a later version; give a .jsonl or .jsonl.gz trace"
            )
        return cls(Path(source).name, shape, tuple(shape.apply(read_traces(source))))

    @property
    def turns(self) -> int:
        """The calls of all agents."""
        return sum(len(agent.steps) for agent in self.agents)

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
