"""Traces for property tests: consistent ones, and ones that keep more than there was."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from concur_agents.replay.trace import AgentTrace, TraceStep

# A machine that is busy elsewhere makes examples slow; that is no fault of the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def agents(draw, *, honest=True, max_tokens=400):
    """An agent; an `honest` one never keeps more than the step before left."""
    count = draw(st.integers(1, 8))
    steps, there = [], 0
    for index in range(count):
        kind = draw(st.sampled_from(["all", "prompt", "cut"])) if index else "first"
        before = steps[-1] if steps else None
        kept = {
            "first": 0,
            "all": there,
            "prompt": before.context_tokens if before else 0,
            "cut": draw(st.integers(0, there if honest else there + 50)),
        }[kind]
        new = draw(st.integers(0 if kept else 1, max_tokens))
        output = draw(st.integers(0, max_tokens))
        steps.append(
            TraceStep(
                context_tokens=kept + new,
                new_input_tokens=new,
                output_tokens=output,
                tool_seconds=draw(st.none() | st.floats(0, 100)),
                reset=kind == "cut",
            )
        )
        there = kept + new + output
    return AgentTrace(
        agent_id="a",
        prefix_group=draw(st.sampled_from(["g", "h"])),
        shared_prefix_tokens=draw(st.integers(0, max_tokens)),
        steps=tuple(steps),
    )
