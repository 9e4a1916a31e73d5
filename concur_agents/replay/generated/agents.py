"""The calls of one generated agent, from a profile and two seeded streams."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from concur_agents.replay.shape import cut_family
from concur_agents.replay.trace import TraceError, TraceStep

if TYPE_CHECKING:
    from concur_agents.replay.family import Family
    from concur_agents.replay.generated.draw import Mixture, Spread
    from concur_agents.replay.generated.profiles import Profile


class Draws:
    """What one agent's numbers are drawn from; the same words make the same numbers in every process.

    Waits have a stream of their own: agents that differ in their waits alone have the same tokens.

    Args:
        words: Name the agent, the seed among them.
    """

    def __init__(self, *words: object) -> None:
        name = "/".join(map(str, words))
        self.tokens = random.Random(f"{name}/tokens")  # noqa: S311  a load, not a secret
        self.waits = random.Random(f"{name}/waits")  # noqa: S311  as above

    def count(self, spread: Spread) -> int:
        """A count of tokens or calls."""
        return round(spread.draw(self.tokens))

    def between(self, limits: tuple[int, int]) -> int:
        """A count, all from the one limit to the other alike likely."""
        return self.tokens.randint(*limits)


def grow(
    profile: Profile, draws: Draws, steps: int, *, wait: Spread | Mixture | None = None, last_output: int | None = None
) -> tuple[TraceStep, ...]:
    """An agent's calls; each prompt keeps all that was there before. The profile's window is not looked at.

    Args:
        profile: The sort of agent.
        draws: Its streams.
        steps: How many calls, at least one.
        wait: Between two calls, if not that of the profile. [s]
        last_output: What the last call generates, if not drawn as the others. [tokens]
    """
    wait = wait or profile.wait
    reading = (steps / profile.steps.median) ** -profile.taper
    made: list[TraceStep] = []
    there = 0
    new = profile.shared + draws.count(profile.task)
    for number in range(1, steps + 1):
        output = draws.count(profile.output)
        if number == steps and last_output is not None:
            output = last_output
        made.append(
            TraceStep(
                context_tokens=there + new,
                new_input_tokens=new,
                output_tokens=output,
                tool_seconds=round(wait.draw(draws.waits), 3),
            )
        )
        there += new + output
        new = max(1, round(reading * profile.result.draw(draws.tokens)))
    return tuple(made)


def within(family: Family, window: int) -> Family:
    """A family of which every agent ends before the call that passes the window. [tokens]

    Raises:
        TraceError: If the first call of its first agent does.
    """
    cut = cut_family(family, window)
    if cut is None:
        raise TraceError(f"the first call of {family[0].agent_id} passes its window of {window} tokens")
    return cut
