"""A gate in virtual time, on a server that is played by a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import concur_agents.gate
from concur_agents import ConcurGate, MetricsError
from concur_agents.engines import Poller

if TYPE_CHECKING:
    import pytest


@dataclass
class Server:
    """A vLLM metrics page (format of 0.32) whose numbers a test sets. Down: nothing answers."""

    usage: float = 0.0
    queries: float = 0.0
    hits: float = 0.0
    generated: float = 0.0
    capacity: int = 16384
    asleep: bool = False
    down: bool = False
    polls: list[float] = field(default_factory=list)

    async def fetch(self) -> str:
        if self.down:
            raise MetricsError("nothing answers (connection refused): is the server up, is the port right?")
        self.generated += 1
        label = '{engine="0",model_name="tiny"}'
        awake, asleep = (0.0, 1.0) if self.asleep else (1.0, 0.0)
        return "\n".join(
            [
                f"vllm:kv_cache_usage_perc{label} {self.usage}",
                f"vllm:prefix_cache_queries_total{label} {self.queries}",
                f"vllm:prefix_cache_hits_total{label} {self.hits}",
                f"vllm:generation_tokens_total{label} {self.generated}",
                f"vllm:num_requests_running{label} 1.0",
                f'vllm:engine_sleep_state{{engine="0",model_name="tiny",sleep_state="awake"}} {awake}',
                f'vllm:engine_sleep_state{{engine="0",model_name="tiny",sleep_state="weights_offloaded"}} {asleep}',
                f'vllm:cache_config_info{{block_size="32",engine="0",kv_cache_size_tokens="{self.capacity}"}} 1.0',
                "",
            ]
        )


def gate_on(server: Server, monkeypatch: pytest.MonkeyPatch, **settings: object) -> ConcurGate:
    """A gate that polls this server."""
    monkeypatch.setattr(concur_agents.gate, "Poller", lambda *args, **kw: Poller(*args, **kw | {"fetch": server.fetch}))
    return ConcurGate("http://server:8000", **settings)  # type: ignore[arg-type]
