"""Admits LLM agents, not requests, to an inference server: as many as its KV cache can hold."""

from .agent import Agent, Turn, Usage
from .config import GateConfig
from .control.base import Budget, Controller
from .errors import (
    AdmissionTimeout,
    AgentFinished,
    CheckpointError,
    ConcurError,
    GateClosed,
    MetricsError,
    MissingExtra,
    WrongLoop,
)
from .gate import ConcurGate
from .listener import Listener
from .place import Waiting
from .pool.drop_in import gather
from .stats import Decision, GateStats

__all__ = [
    "AdmissionTimeout",
    "Agent",
    "AgentFinished",
    "Budget",
    "CheckpointError",
    "ConcurError",
    "ConcurGate",
    "Controller",
    "Decision",
    "GateClosed",
    "GateConfig",
    "GateStats",
    "Listener",
    "MetricsError",
    "MissingExtra",
    "Turn",
    "Usage",
    "Waiting",
    "WrongLoop",
    "gather",
]
