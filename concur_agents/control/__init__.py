"""How much may be active: pure state machines without I/O, clock or randomness."""

from __future__ import annotations

from concur_agents.control.aimd import Aimd
from concur_agents.control.base import Budget, Controller, EngineSample, EngineView, PoolView
from concur_agents.control.fixed import Fixed, Unlimited
from concur_agents.control.outage import Fallback, frozen
from concur_agents.control.pi import Pi
from concur_agents.control.spec import CONTROLLER_SPECS, parse_controller
from concur_agents.control.working_set import WorkingSet

__all__ = [
    "CONTROLLER_SPECS",
    "Aimd",
    "Budget",
    "Controller",
    "EngineSample",
    "EngineView",
    "Fallback",
    "Fixed",
    "Pi",
    "PoolView",
    "Unlimited",
    "WorkingSet",
    "frozen",
    "parse_controller",
]
