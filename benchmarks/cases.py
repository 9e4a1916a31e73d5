"""The cases of the benchmark: workloads on engines, from calm to sixteen times oversubscribed.

The traces are other people's recordings and not in the project: they are looked for by name in the folder that
`--traces` or CONCUR_TRACES names, and without it only generated agents run. Whatever a seed can change it changes:
generated agents and arrivals are drawn anew, of a trace other agents are chosen, or all in another order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from concur_agents.replay.family import families
from concur_agents.replay.shape import Shape, cut_agent, sample, scale_agent
from concur_agents.replay.trace import AgentTrace, TraceStep
from concur_agents.replay.workload import Workload
from concur_agents.simulation.profile import EngineProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


GIANT = 4.0
"""A giant's contexts are so many times those of the others."""
RESET_KEEPS = 0.2
"""What a rewritten context keeps beside the shared prefix, as a summary of that size would: a share of it."""


@dataclass(frozen=True)
class Case:
    """One workload on one engine.

    Attributes:
        name: On the command line and in the table.
        group: Of the table.
        source: `workload:NAME`, or the name of a trace's file without its ending.
        agents: How many, those that others spawn not counted; None: as many as there are.
        model: As `parse_model` takes it.
        hardware: As `parse_hardware` takes it.
        tools: Multiplies the tool waits.
        scale: Multiplies all token counts.
        change: What is done to the agents then, with the seed.
    """

    name: str
    group: str
    source: str
    agents: int | None
    hardware: str
    model: str = "qwen3-32b"
    tools: float = 1.0
    scale: float = 1.0
    change: Callable[[Sequence[AgentTrace], int], list[AgentTrace]] | None = None

    @property
    def generated(self) -> bool:
        """Whether it needs no trace."""
        return self.source.startswith("workload:")

    def workload(self, traces: Path | None, seed: int) -> Workload:
        """Its agents.

        Args:
            traces: The folder of the traces.
            seed: Draws the agents, or chooses them and their order. With seed 0 the agents of a trace of which all
                are taken are in its order.

        Raises:
            ValueError: If it needs a trace and no folder is named.
            TraceError: If the trace is not there or wrong.
        """
        if self.generated:
            source = self.source
        elif traces is None:
            raise ValueError(f"{self.name} needs {self.source}.jsonl.gz: name its folder with --traces")
        else:
            source = str(traces / f"{self.source}.jsonl.gz")
        workload = Workload.load(source, Shape(agents=self.agents, seed=seed, scale=self.scale, scale_tools=self.tools))
        agents: Sequence[AgentTrace] = workload.agents
        if seed and self.agents is None and not self.generated:
            agents = sample(agents, len(families(agents)), seed)
        if self.change is not None:
            agents = self.change(agents, seed)
        return Workload(workload.source, workload.shape, tuple(agents))

    def profile(self, workload: Workload) -> EngineProfile:
        """Its engine, which takes the longest of the workload's calls."""
        profile = EngineProfile.from_hardware(self.model, self.hardware)
        return profile.model_copy(update={"max_model_len": max(profile.max_model_len, workload.longest)})


def with_resets(agents: Sequence[AgentTrace], seed: int) -> list[AgentTrace]:  # noqa: ARG001  the face of a change
    """Every agent's context is rewritten in the middle of its run: the shared prefix stays, the rest shrinks."""
    return [_reset(agent) for agent in agents]


def _reset(agent: AgentTrace) -> AgentTrace:
    middle = len(agent.steps) // 2
    if len(agent.steps) < 4:
        return agent
    steps = list(agent.steps)
    whole = steps[middle].context_tokens
    shared = min(agent.shared_prefix_tokens, steps[middle].kept_tokens)
    context = shared + max(1, round(RESET_KEEPS * (whole - shared)))
    steps[middle] = steps[middle].model_copy(
        update={"context_tokens": context, "new_input_tokens": context - shared, "reset": True}
    )
    gone = whole - context
    for number in range(middle + 1, len(steps)):
        step = steps[number]
        if step.reset or step.kept_tokens < gone:
            break  # it was rewritten here anyway
        steps[number] = step.model_copy(update={"context_tokens": step.context_tokens - gone})
    return agent.model_copy(update={"steps": tuple(steps)})


def with_giants(agents: Sequence[AgentTrace], seed: int, *, longest: int) -> list[AgentTrace]:
    """One agent in ten has contexts four times as large, up to a length; outputs stay.

    Args:
        agents: The agents, none of which spawns others.
        seed: Chooses the giants.
        longest: Where a giant ends. [tokens]
    """
    giants = set(random.Random(f"{seed}/giants").sample(range(len(agents)), max(1, len(agents) // 10)))
    made = []
    for number, agent in enumerate(agents):
        if number not in giants:
            made.append(agent)
            continue
        grown = scale_agent(agent, GIANT, output=1 / GIANT)
        opening = {"prefix_group": f"{agent.prefix_group}-giant"}  # its opening grew too: others do not share it
        made.append((cut_agent(grown, longest) or agent).model_copy(update=opening))
    return made


def with_prefix(agents: Sequence[AgentTrace], seed: int, *, share: float) -> list[AgentTrace]:  # noqa: ARG001  the face of a change
    """A longer opening, the same for all agents, so that it is a share of the mean prompt."""
    steps = [step for agent in agents for step in agent.steps]
    mean = sum(step.context_tokens for step in steps) / len(steps)
    own = mean - sum(agent.shared_prefix_tokens * len(agent.steps) for agent in agents) / len(steps)
    made = []
    for agent in agents:
        more = round(share / (1 - share) * own) - agent.shared_prefix_tokens
        longer = [
            step.model_copy(
                update={
                    "context_tokens": step.context_tokens + more,
                    "new_input_tokens": step.new_input_tokens + (0 if number else more),
                }
            )
            for number, step in enumerate(agent.steps)
        ]
        shared = agent.shared_prefix_tokens + more
        made.append(agent.model_copy(update={"steps": tuple(longer), "shared_prefix_tokens": shared}))
    return made


def short_lived(agents: Sequence[AgentTrace], seed: int, *, first: int, turns: int) -> list[AgentTrace]:  # noqa: ARG001  the face of a change
    """Agents all alike that are over in seconds: what a gate learns, it learns too late for them.

    Args:
        agents: Gives their number and names.
        seed: Not used: nothing is drawn.
        first: The first prompt; each turn adds 300 tokens, 80 of them its output. [tokens]
        turns: How many, with tools of 50 ms between them.
    """
    steps = tuple(
        TraceStep(
            context_tokens=first + 300 * turn,
            new_input_tokens=220 if turn else first,
            output_tokens=80,
            tool_seconds=0.05,
        )
        for turn in range(turns)
    )
    return [AgentTrace(agent_id=agent.agent_id, prefix_group="short", steps=steps) for agent in agents]


def arriving(agents: Sequence[AgentTrace], seed: int, *, gap_s: float, together: int = 1) -> list[AgentTrace]:
    """Agents come one by one, or some together, after gaps of a Poisson process; who is spawned is left alone.

    Args:
        agents: The agents.
        seed: Draws the gaps.
        gap_s: The mean gap. [s]
        together: How many come at once.
    """
    rng = random.Random(f"{seed}/arrivals")
    start = 0.0
    made = []
    roots = {id(family[0]): number for number, family in enumerate(families(agents))}
    for agent in agents:
        number = roots.get(id(agent))
        if number is None:
            made.append(agent)
            continue
        if number and number % together == 0:
            start += rng.expovariate(1 / gap_s)
        made.append(agent.model_copy(update={"start_seconds": round(start, 3)}))
    return made


def _cases() -> list[Case]:
    glm, claude, iswe = "agentcgroup_glm", "agentcgroup_claude", "iswe_polybench"
    tau, mooncake = "tau_airline_gpt4o", "mooncake_conversation"
    swe, search, chat = "workload:swe", "workload:search", "workload:chat-tools"
    return [
        Case("glm", "pressure", glm, None, "h100:8"),
        Case("claude", "pressure", claude, None, "h100:4"),
        Case("iswe", "pressure", iswe, 256, "h100:4"),
        Case("swe", "pressure", swe, 128, "h100:4"),
        Case("search", "pressure", search, 128, "h100:4"),
        Case("chat-tools", "pressure", chat, 1024, "h100:2"),
        Case("burst", "pressure", "workload:burst", 128, "h100:4"),
        Case("long-tools", "pressure", "workload:long-tools", 128, "h100:4"),
        Case("fan-out", "pressure", "workload:fan-out", 32, "h100:4"),
        Case("tau", "calm", tau, None, "h100:2"),
        Case("mooncake", "calm", mooncake, 512, "h100:8"),
        Case("no-pressure", "calm", "workload:no-pressure", None, "h100:2"),
        Case("chat-tools-256", "calm", chat, 256, "h100:2"),
        Case("glm-few", "calm", glm, 12, "h100:8"),
        Case("swe-few", "calm", swe, 16, "h100:8"),
        Case("glm-4gpu", "sizes", glm, None, "h100:4"),
        Case("glm-2gpu", "sizes", glm, 56, "h100:2"),
        Case("claude-8gpu", "sizes", claude, None, "h100:8"),
        Case("claude-2gpu", "sizes", claude, 51, "h100:2"),
        Case("iswe-64", "sizes", iswe, 64, "h100:4"),
        Case("iswe-346", "sizes", iswe, None, "h100:4"),
        Case("swe-256", "sizes", swe, 256, "h100:4"),
        Case("search-32", "sizes", search, 32, "h100:4"),
        Case("search-256", "sizes", search, 256, "h100:4"),
        Case("mooncake-2gpu", "sizes", mooncake, 512, "h100:2"),
        *(
            Case(
                f"short-{agents}×{turns}-{hardware.partition(':')[2]}gpu",
                "short",
                chat,
                agents,
                hardware,
                change=partial(short_lived, first=first, turns=turns),
            )
            for agents, first, turns, hardware in (
                (16, 1000, 4, "h100:2"),
                (32, 4000, 4, "h100:4"),
                (64, 1000, 4, "h100:2"),
                (64, 1000, 12, "h100:8"),
                (256, 500, 2, "h100:8"),
            )
        ),
        *(
            Case(f"{name}-tools×{factor:g}", "tool waits", source, agents, hardware, tools=factor)
            for name, source, agents, hardware in (("glm", glm, None, "h100:8"), ("search", search, 128, "h100:4"))
            for factor in (0.1, 10.0, 100.0)
        ),
        Case("glm-resets", "shapes", glm, None, "h100:8", change=with_resets),
        Case("swe-resets", "shapes", swe, 128, "h100:4", change=with_resets),
        Case("glm-giants", "shapes", glm, None, "h100:8", change=partial(with_giants, longest=250_000)),
        Case("search-giants", "shapes", search, 128, "h100:4", change=partial(with_giants, longest=250_000)),
        Case("iswe-shared", "shapes", iswe, 128, "h100:4", change=partial(with_prefix, share=0.8)),
        Case("chat-tools-shared", "shapes", chat, 512, "h100:2", change=partial(with_prefix, share=0.8)),
        Case("glm-poisson", "arrivals", glm, None, "h100:8", change=partial(arriving, gap_s=2.0)),
        Case("swe-poisson", "arrivals", swe, 128, "h100:4", change=partial(arriving, gap_s=4.0)),
        Case("claude-bursts", "arrivals", claude, None, "h100:4", change=partial(arriving, gap_s=60.0, together=16)),
        Case("search-bursts", "arrivals", search, 128, "h100:4", change=partial(arriving, gap_s=60.0, together=16)),
    ]


CASES = {case.name: case for case in _cases()}
GROUPS = tuple(dict.fromkeys(case.group for case in CASES.values()))


def chosen(names: Sequence[str], *, traces: bool) -> list[Case]:
    """Cases by their names or their groups' names; none named: all.

    Args:
        names: Of cases or groups.
        traces: Whether there are traces; without them the cases that need one are left out.

    Raises:
        ValueError: If a name is neither.
    """
    unknown = [name for name in names if name not in CASES and name not in GROUPS]
    if unknown:
        raise ValueError(f"there is no case or group {unknown[0]!r}: give some of {', '.join((*GROUPS, *CASES))}")
    wanted = [case for case in CASES.values() if not names or case.name in names or case.group in names]
    return [case for case in wanted if traces or case.generated]
