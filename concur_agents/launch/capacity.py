"""How many agents of a size fit, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concur_agents.simulation.hardware import Hardware
    from concur_agents.simulation.models import ModelShape

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the KV cache of a server holds, and what is asked of it.

    Attributes:
        model: What is served.
        hardware: What it is served on.
        tokens: Size of the KV cache, all GPUs together. [tokens]
        kv_bytes_per_token: What one token of context takes on each GPU. [bytes]
        agents: Agents that shall run.
        context: The context of one at its largest. [tokens]
    """

    model: ModelShape
    hardware: Hardware
    tokens: int
    kv_bytes_per_token: float
    agents: int
    context: int

    @property
    def fitting(self) -> int:
        """Agents whose contexts fit at once when each is at its largest."""
        return self.tokens // self.context

    @property
    def oversubscription(self) -> float:
        """The contexts of all agents at their largest, over what fits."""
        return self.agents * self.context / self.tokens

    @property
    def copies(self) -> float:
        """How often each token is kept: above 1 where there are more GPUs than key-value heads to share out."""
        count = self.hardware.count
        return self.model.kv_bytes_per_token_on(count) * count / self.model.kv_bytes_per_token

    def sentences(self) -> list[str]:
        """The arithmetic, for people."""
        count = self.hardware.count
        gib = self.hardware.gpu.memory_bytes / _GIB
        each = " on each GPU" if count > 1 else ""
        weights = f"weights {self.model.weight_bytes / _GIB:,.1f} GiB"
        token = f"{self.kv_bytes_per_token / 1024:,.4g} KiB of KV cache a token{each}"
        tokens = f"{round(self.tokens, -3):,}" if self.tokens > 100_000 else f"{self.tokens:,}"
        said = [
            f"Memory: {count} x {gib:.1f} GiB; {weights}; {token}.",
            f"About {tokens} tokens of KV cache: {_agents(self.fitting)} of {self.context:,} tokens at once.",
        ]
        if self.oversubscription > 1:
            said.append(
                f"{self.agents} agents at their largest are {self.oversubscription:.1f} times what fits: start them "
                "all, the gate keeps active what the cache can hold."
            )
        else:
            said.append(f"All {self.agents} fit, even at their largest: a gate will not be felt.")
        return said


def _agents(count: int) -> str:
    return f"{count:,} agent{'' if count == 1 else 's'}"
