"""What a controller is shown, in a word each."""

from __future__ import annotations

from dataclasses import dataclass

from concur_agents.control import PoolView

CAPACITY = 100_000.0
"""The cache of the server in these tests. [KV tokens]"""


@dataclass(frozen=True)
class View:
    """What a server said."""

    capacity_tokens: float | None = CAPACITY
    usage: float | None = 0.5
    hit_rate: float | None = 0.9
    window_s: float = 5.0
    computed_prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    preemptions: float = 0.0
    engines: tuple = ()


def weighed(**changes) -> PoolView:
    """Four agents that have told their tokens, two of them in a turn."""
    return PoolView(**{"active": 4, "running": 2, "weighed": 4, "working_set_tokens": 50_000.0} | changes)
