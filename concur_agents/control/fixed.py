"""The two controllers that look at nothing: a constant number of agents, and no limit at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.control.base import Budget
from concur_agents.control.checks import check_whole

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView, PoolView


class Unlimited:
    """No gate: every agent runs at once. The baseline that the others are measured against."""

    name = "none"
    needs_metrics = False

    def __init__(self) -> None:
        self._budget = Budget(reason="no limit")

    def __repr__(self) -> str:
        return "Unlimited()"

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:  # noqa: ARG002 - the protocol's face
        """Always the same budget, without a limit."""
        return self._budget


class Fixed:
    """The same number of agents, whatever happens.

    Tuned by a sweep it is the strongest cheap rival; verl, verifiers and slime ship one.

    Args:
        agents: How many agents may be active, at least 1.

    Raises:
        ValueError: If `agents` is not a whole number of at least 1.
    """

    needs_metrics = False

    def __init__(self, agents: int) -> None:
        check_whole("agents", agents)
        self.agents = agents
        self._budget = Budget(agents=agents, reason=f"fixed at {agents} agent{'s' if agents > 1 else ''}")

    def __repr__(self) -> str:
        return f"Fixed({self.agents})"

    @property
    def name(self) -> str:
        """`fixed:N`, as on the command line."""
        return f"fixed:{self.agents}"

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:  # noqa: ARG002 - the protocol's face
        """Always the same budget of `agents` agents."""
        return self._budget
