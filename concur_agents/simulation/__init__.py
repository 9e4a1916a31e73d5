"""The embedded engine: a model of vLLM's cache and scheduler, on the server's side of the wire."""

from concur_agents.simulation.content import Prompt, Segment
from concur_agents.simulation.counters import Counters
from concur_agents.simulation.engine import Engine, Event, Finished, FirstToken, RequestRefused
from concur_agents.simulation.limits import SchedulerLimits
from concur_agents.simulation.request import Phase, Request
from concur_agents.simulation.step import LinearStepTime, StepLoad, StepTime

__all__ = [
    "Counters",
    "Engine",
    "Event",
    "Finished",
    "FirstToken",
    "LinearStepTime",
    "Phase",
    "Prompt",
    "Request",
    "RequestRefused",
    "SchedulerLimits",
    "Segment",
    "StepLoad",
    "StepTime",
]
