"""The worst of what a server's engines say: a controller brakes on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from concur_agents.control.base import EngineSample


def known(value: float | None) -> float | None:
    """The value if it says something; None for None, NaN and infinities."""
    return value if value is not None and math.isfinite(value) else None


def highest_usage(engines: Iterable[EngineSample]) -> float | None:
    """The highest KV usage of any engine, a share of its cache; None if none says."""
    said = (known(engine.usage) for engine in engines)
    return max((usage for usage in said if usage is not None), default=None)


def lowest_hit_rate(engines: Iterable[EngineSample]) -> float | None:
    """The lowest prefix hit rate of any engine, a share of looked-up tokens; None if none has evidence."""
    said = (known(engine.hit_rate) for engine in engines)
    return min((rate for rate in said if rate is not None), default=None)


def shown(value: float | None) -> str:
    """A share for people: two digits, or "unknown"."""
    return "unknown" if value is None else f"{value:.2f}"
