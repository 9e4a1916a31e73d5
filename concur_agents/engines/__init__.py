"""What a server says about its cache and its queue."""

from __future__ import annotations

from concur_agents.engines.page import metrics_url
from concur_agents.engines.poller import Poller
from concur_agents.engines.snapshot import EngineReading, EngineSnapshot, EngineWindow
from concur_agents.engines.vllm import read_vllm
from concur_agents.engines.window import Window

__all__ = [
    "EngineReading",
    "EngineSnapshot",
    "EngineWindow",
    "Poller",
    "Window",
    "metrics_url",
    "read_vllm",
]
