"""A small engine, and a few agents whose contexts are too much for it together."""

from __future__ import annotations

from concur_agents.replay.shape import Shape
from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.replay.workload import Workload
from concur_agents.simulation.profile import EngineProfile, LinearProfile


def small(blocks=257):
    """4,096 tokens of cache; 25 ms a step, 1 ms for each prompt token."""
    return EngineProfile(
        name="small",
        description="made up",
        blocks=blocks,
        max_model_len=2048,
        step_time=LinearProfile(step=0.025, token=0.001),
    )


def growing(agents=8, steps=6, *, spawned=False):
    """Contexts that grow from 200 to about 900 tokens; if asked for, the first agent spawns another one."""

    def one(name, steps, *, spawns=(), parent=None):
        made, context, new = [], 200, 200
        for number in range(steps):
            step = {"context_tokens": context, "new_input_tokens": new, "output_tokens": 20, "tool_seconds": 0.5}
            made.append(TraceStep(**step, spawns=spawns if number == 2 else ()))
            new = 120
            context += 20 + new
        return AgentTrace(agent_id=name, prefix_group="g", shared_prefix_tokens=64, steps=made, parent=parent)

    children = [one("child", 2, parent="agent-0")] if spawned else []
    first = one("agent-0", steps, spawns=tuple(child.agent_id for child in children))
    others = [one(f"agent-{number}", steps) for number in range(1, agents)]
    return Workload("made up", Shape(), (first, *others, *children))
