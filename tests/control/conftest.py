"""What the tests of this room share: a way to say what a server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from concur_agents.engines.snapshot import EngineSnapshot, EngineWindow

if TYPE_CHECKING:
    from collections.abc import Callable


def snapshot_of(*engines: tuple[float | None, float | None], capacity_tokens: float | None = None) -> EngineSnapshot:
    """A snapshot of a server with these (usage, hit rate), an engine each."""
    windows = tuple(
        EngineWindow(engine=str(index), usage=usage, hit_rate=hit_rate, running=None, waiting=None)
        for index, (usage, hit_rate) in enumerate(engines)
    )
    return EngineSnapshot(
        time=0.0,
        window_s=1.0,
        engines=windows,
        usage=max((each.usage for each in windows if each.usage is not None), default=None),
        hit_rate=min((each.hit_rate for each in windows if each.hit_rate is not None), default=None),
        running=None,
        waiting=None,
        sleeping=False,
        capacity_tokens=capacity_tokens,
        block_size=None,
        preemptions=0.0,
        prompt_tokens=0.0,
        computed_prompt_tokens=0.0,
        generation_tokens=0.0,
        restarts=0,
    )


@pytest.fixture
def says() -> Callable[..., EngineSnapshot]:
    """`says((0.6, 0.1), (0.2, None), capacity_tokens=…)`: what a server with two engines says."""
    return snapshot_of
