"""What a gate tells to the outside: metrics, traces, logs, recordings, a live view. Imported when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .logs import log_agents
    from .opentelemetry import trace_opentelemetry
    from .prometheus import export_prometheus

__all__ = ["export_prometheus", "log_agents", "trace_opentelemetry"]

_ROOMS = {"export_prometheus": "prometheus", "log_agents": "logs", "trace_opentelemetry": "opentelemetry"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing before.

    Raises:
        MissingExtra: If the package that it needs is not installed.
    """
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
