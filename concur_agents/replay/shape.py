"""A trace cut to measure: fewer agents, smaller contexts, shorter waits. Pure functions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.replay.family import families, renamed, without
from concur_agents.replay.trace import AgentTrace, TraceError, TraceStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from concur_agents.replay.family import Family


@dataclass(frozen=True, slots=True)
class Shape:
    """How a trace is changed before it is replayed.

    Attributes:
        agents: How many agents, those that others spawn not counted: they come with them; None: as many as
            there are. More than there are: the trace is gone through again, the repeated agents named `…#2`, `…#3`.
        seed: Chooses the agents, without replacement, and their order. Without `agents` the order is that
            of the trace.
        scale: Multiplies all token counts.
        scale_output: Multiplies the outputs, on top of `scale`; contexts shrink or grow with what they
            keep of them.
        scale_tools: Multiplies the tool waits, and the times at which agents start.
        max_context: An agent ends before the first call whose prompt and output would pass this, and what
            it would have spawned from its new last call on does not run. [tokens, after scaling]

    Raises:
        ValueError: If a number is out of range.
    """

    agents: int | None = None
    seed: int = 0
    scale: float = 1.0
    scale_output: float = 1.0
    scale_tools: float = 1.0
    max_context: int | None = None

    def __post_init__(self) -> None:
        if self.agents is not None and self.agents < 1:
            raise ValueError(f"{self.agents} agents: give 1 or more")
        if not (0 < self.scale < float("inf") and 0 < self.scale_output < float("inf")):
            raise ValueError(f"token counts cannot be scaled by {self.scale} and {self.scale_output}: give more than 0")
        if not 0 <= self.scale_tools < float("inf"):
            raise ValueError(f"tool waits cannot be scaled by {self.scale_tools}: give 0 or more")
        if self.max_context is not None and self.max_context < 1:
            raise ValueError(f"a context of at most {self.max_context} tokens: give 1 or more")

    def apply(self, agents: Sequence[AgentTrace]) -> list[AgentTrace]:
        """Scale, then cut at `max_context`, then choose among the agents that have a call left.

        Raises:
            TraceError: If no agent has a call left, or agents do not agree on who spawns whom.
        """
        scaled = [scale_agent(agent, self.scale, output=self.scale_output, tools=self.scale_tools) for agent in agents]
        shaped = families(scaled)
        if self.max_context is not None:
            shaped = [cut for family in shaped if (cut := cut_family(family, self.max_context)) is not None]
        if not shaped:
            raise TraceError(
                f"no agent has a first call within {self.max_context} tokens: raise --max-context, or lower --scale"
            )
        together = [agent for family in shaped for agent in family]
        return together if self.agents is None else sample(together, self.agents, self.seed)


def scale_agent(agent: AgentTrace, factor: float, *, output: float = 1.0, tools: float = 1.0) -> AgentTrace:
    """An agent with scaled counts that are still consistent with each other.

    What is kept of the step before stays the same share of it: all of a prompt and its output stays all
    of them. Rounding errors do not add up over the steps. Every output keeps at least one token, every
    prompt too.

    Args:
        agent: The agent.
        factor: Multiplies all token counts.
        output: Multiplies the outputs, on top of `factor`.
        tools: Multiplies the tool waits and the start.
    """
    steps: list[TraceStep] = []
    before: TraceStep | None = None
    exact = 0.0  # the context before rounding
    for step in agent.steps:
        kept, new, exact_kept = 0, step.context_tokens, 0.0
        if before is not None:
            last = steps[-1]
            of_prompt = min(1.0, step.kept_tokens / before.context_tokens)
            of_output = _share(step.kept_tokens - before.context_tokens, before.output_tokens)
            kept = round(of_prompt * last.context_tokens) + round(of_output * last.output_tokens)
            new -= min(step.kept_tokens, before.context_tokens + before.output_tokens)
            exact_kept = of_prompt * exact + of_output * before.output_tokens * factor * output
        exact = exact_kept + factor * new
        context = max(round(exact), kept, 1)
        steps.append(
            step.model_copy(
                update={
                    "context_tokens": context,
                    "new_input_tokens": context - kept,
                    "output_tokens": max(1, round(factor * output * step.output_tokens)),
                    "tool_seconds": None if step.tool_seconds is None else tools * step.tool_seconds,
                }
            )
        )
        before = step
    return agent.model_copy(
        update={
            "steps": tuple(steps),
            "shared_prefix_tokens": round(factor * agent.shared_prefix_tokens),
            "start_seconds": tools * agent.start_seconds,
        }
    )


def _share(part: int, whole: int) -> float:
    return min(1.0, max(0.0, part / whole)) if whole else 0.0


def cut_agent(agent: AgentTrace, max_context: int) -> AgentTrace | None:
    """An agent that ends before the first call whose prompt and output pass `max_context` tokens.

    None if that is its first call. Its last call spawns nobody: nothing would await them.
    """
    for index, step in enumerate(agent.steps):
        if step.context_tokens + step.output_tokens > max_context:
            if not index:
                return None
            last = agent.steps[index - 1].model_copy(update={"spawns": ()})
            return agent.model_copy(update={"steps": (*agent.steps[: index - 1], last)})
    return agent


def cut_family(family: Family, max_context: int) -> Family | None:
    """A family of which every agent is cut; those whose first call is too long, or never spawned, are left out.

    None if the first of the family, whom nobody spawns, has no call left.
    """
    cut = [cut_agent(agent, max_context) for agent in family]
    if cut[0] is None:
        return None
    gone = {agent.agent_id for agent, left in zip(family, cut, strict=True) if left is None}
    return without(tuple(agent for agent in cut if agent is not None), gone)


def sample(agents: Sequence[AgentTrace], count: int, seed: int) -> list[AgentTrace]:
    """`count` agents and those they spawn, seeded, without replacement; beyond all of them, all of them again.

    A repeated agent has the same counts under another name (`…#2`), so a replay gives it other tokens.

    Raises:
        TraceError: If agents do not agree on who spawns whom.
    """
    rng = random.Random(seed)  # noqa: S311  a load, not a secret
    there = families(agents)
    chosen: list[Family] = []
    cycle = 1
    while len(chosen) < count:
        part = rng.sample(there, min(count - len(chosen), len(there)))
        chosen += part if cycle == 1 else [renamed(family, f"#{cycle}") for family in part]
        cycle += 1
    return [agent for family in chosen for agent in family]
