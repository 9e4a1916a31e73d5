"""A trace cut to measure: fewer agents, smaller contexts, shorter waits. Pure functions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concur_agents.replay.trace import AgentTrace, TraceError, TraceStep

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Shape:
    """How a trace is changed before it is replayed.

    Attributes:
        agents: How many agents; None: as many as there are. More than there are: the trace is gone
            through again, the repeated agents named `…#2`, `…#3`.
        seed: Chooses the agents, without replacement, and their order. Without `agents` the order is that
            of the trace.
        scale: Multiplies all token counts.
        scale_output: Multiplies the outputs, on top of `scale`; contexts shrink or grow with what they
            keep of them.
        scale_tools: Multiplies the tool waits.
        max_context: An agent ends before the first call whose prompt and output would pass this. [tokens,
            after scaling]

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
            TraceError: If no agent has a call left.
        """
        shaped = [scale_agent(agent, self.scale, output=self.scale_output, tools=self.scale_tools) for agent in agents]
        if self.max_context is not None:
            shaped = [cut for agent in shaped if (cut := cut_agent(agent, self.max_context)) is not None]
        if not shaped:
            raise TraceError(
                f"no agent has a first call within {self.max_context} tokens: raise --max-context, or lower --scale"
            )
        return shaped if self.agents is None else sample(shaped, self.agents, self.seed)


def scale_agent(agent: AgentTrace, factor: float, *, output: float = 1.0, tools: float = 1.0) -> AgentTrace:
    """An agent with scaled counts that are still consistent with each other.

    What is kept of the step before stays the same share of it: all of a prompt and its output stays all
    of them. Rounding errors do not add up over the steps. Every output keeps at least one token, every
    prompt too.

    Args:
        agent: The agent.
        factor: Multiplies all token counts.
        output: Multiplies the outputs, on top of `factor`.
        tools: Multiplies the tool waits.
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
        }
    )


def _share(part: int, whole: int) -> float:
    return min(1.0, max(0.0, part / whole)) if whole else 0.0


def cut_agent(agent: AgentTrace, max_context: int) -> AgentTrace | None:
    """An agent that ends before the first call whose prompt and output pass `max_context` tokens.

    None if that is its first call.
    """
    for index, step in enumerate(agent.steps):
        if step.context_tokens + step.output_tokens > max_context:
            return agent.model_copy(update={"steps": agent.steps[:index]}) if index else None
    return agent


def sample(agents: Sequence[AgentTrace], count: int, seed: int) -> list[AgentTrace]:
    """`count` agents, seeded, without replacement; beyond all of them, all of them again.

    A repeated agent has the same counts under another name (`…#2`), so a replay gives it other tokens.
    """
    rng = random.Random(seed)  # noqa: S311  a load, not a secret
    chosen: list[AgentTrace] = []
    cycle = 1
    while len(chosen) < count:
        part = rng.sample(agents, min(count - len(chosen), len(agents)))
        if cycle > 1:
            part = [agent.model_copy(update={"agent_id": f"{agent.agent_id}#{cycle}"}) for agent in part]
        chosen += part
        cycle += 1
    return chosen
