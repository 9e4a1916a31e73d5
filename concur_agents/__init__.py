"""Admits LLM agents, not requests, to an inference server: as many as its KV cache can hold."""

from .agent import Agent, Turn
from .config import GateConfig
from .control.base import Budget, Controller
from .errors import (
    AdmissionTimeout,
    AgentFinished,
    ConcurError,
    GateClosed,
    MetricsError,
    MissingExtra,
    WrongLoop,
)
from .gate import ConcurGate
from .place import Waiting
from .stats import Decision, GateStats

__all__ = [
    "AdmissionTimeout",
    "Agent",
    "AgentFinished",
    "Budget",
    "ConcurError",
    "ConcurGate",
    "Controller",
    "Decision",
    "GateClosed",
    "GateConfig",
    "GateStats",
    "MetricsError",
    "MissingExtra",
    "Turn",
    "Waiting",
    "WrongLoop",
]
