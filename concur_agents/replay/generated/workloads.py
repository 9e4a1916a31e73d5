"""The generated workloads by name."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from concur_agents.replay.generated import profiles
from concur_agents.replay.generated.agents import Draws, grow, within
from concur_agents.replay.generated.fan_out import fan_out
from concur_agents.replay.trace import AgentTrace, TraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from concur_agents.replay.family import Family
    from concur_agents.replay.generated.draw import Mixture
    from concur_agents.replay.generated.profiles import Profile


@dataclass(frozen=True, slots=True)
class Generator:
    """Makes the agents of one workload.

    Attributes:
        summary: What the workload is, in a line.
        agents: How many there are if nobody says; those that others spawn not counted.
        make: Takes a seed; gives agents without end, each with those that it spawns.
    """

    summary: str
    agents: int
    make: Callable[[int], Iterator[Family]]


def generate(name: str, agents: int | None, seed: int) -> list[AgentTrace]:
    """The agents of a workload.

    An agent depends on the workload, the seed and its place alone: of more agents, the first are the same.

    Args:
        name: One of `WORKLOADS`.
        agents: How many, those that others spawn not counted: they come with them, each after its parent.
            None: the workload's own number.
        seed: Of all that is drawn.

    Raises:
        TraceError: If there is no such workload, or the number is below 1.
    """
    generator = WORKLOADS.get(name)
    if generator is None:
        raise TraceError(f"there is no workload {name!r}: give one of {', '.join(WORKLOADS)}")
    count = generator.agents if agents is None else agents
    if count < 1:
        raise TraceError(f"{count} agents: give 1 or more")
    return list(itertools.chain.from_iterable(itertools.islice(generator.make(seed), count)))


def _alone(
    seed: int, *, name: str, profile: Profile, stream: str | None = None, wait: Mixture | None = None
) -> Iterator[Family]:
    """Agents that spawn nobody.

    Two workloads of one `stream` have agents with the same tokens, so that only what else is said differs.
    """
    for number in itertools.count():
        draws = Draws(seed, stream or name, number)
        agent = AgentTrace(
            agent_id=f"{name}-{number}",
            steps=grow(profile, draws, draws.count(profile.steps), wait=wait),
            source=f"workload:{name}",
            prefix_group=name,
            shared_prefix_tokens=profile.shared,
            tokens="generated",
        )
        yield within((agent,), profile.window)


def _in_bursts(seed: int, *, name: str, profile: Profile, stream: str) -> Iterator[Family]:
    """The agents of a workload, the first at once, the others after gaps drawn from a Gamma distribution.

    Of a Gamma variable of shape k and scale s the mean is k s, the coefficient of variation k ^ -1/2.
    """
    rng = random.Random(f"{seed}/{name}/arrivals")  # noqa: S311  a load, not a secret
    shape = profiles.ARRIVAL_CV**-2
    start = 0.0
    for (agent,) in _alone(seed, name=name, profile=profile, stream=stream):
        yield (agent.model_copy(update={"start_seconds": round(start, 3)}),)
        start += rng.gammavariate(shape, profiles.ARRIVAL_GAP_S / shape)


WORKLOADS: Final[Mapping[str, Generator]] = MappingProxyType(
    {
        "swe": Generator(
            "coding agents: long contexts, short outputs, waits of a moment or of some seconds",
            256,
            partial(_alone, name="swe", profile=profiles.SWE),
        ),
        "search": Generator(
            "agents that search the web: few calls, large results, waits of a second or two",
            256,
            partial(_alone, name="search", profile=profiles.SEARCH),
        ),
        "chat-tools": Generator(
            "customer-service agents with tools: short contexts and outputs",
            256,
            partial(_alone, name="chat-tools", profile=profiles.CHAT_TOOLS),
        ),
        "burst": Generator(
            "the agents of swe, coming in bursts",
            256,
            partial(_in_bursts, name="burst", profile=profiles.SWE, stream="swe"),
        ),
        "long-tools": Generator(
            "the agents of swe, every second wait a test run, a build or a training job",
            256,
            partial(_alone, name="long-tools", profile=profiles.SWE, stream="swe", wait=profiles.LONG_TOOLS_WAIT),
        ),
        "fan-out": Generator("leads that start sub-agents and await them", 32, fan_out),
        "no-pressure": Generator(
            "small agents, whose contexts fill no cache: a gate has nothing to do and must do no harm",
            32,
            partial(_alone, name="no-pressure", profile=profiles.NO_PRESSURE),
        ),
    }
)
