"""Generated workloads: agents by name, number and seed, with no trace at hand."""

from __future__ import annotations

from concur_agents.replay.generated.workloads import WORKLOADS, Generator, generate

__all__ = ["WORKLOADS", "Generator", "generate"]
