"""Pacing: no more turn starts a second than an endpoint allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import MissingExtra

if TYPE_CHECKING:
    from .agent import Pacer


def make_pacer(turns_per_second: float) -> Pacer:
    """A pacer over asyncio-throttle, on the real clock.

    Args:
        turns_per_second: Above 0; a rate under one a second is kept as one start in a longer period.

    Raises:
        MissingExtra: If asyncio-throttle is not installed.
    """
    try:
        from asyncio_throttle.throttler import Throttler  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MissingExtra("turns_per_second needs asyncio-throttle: pip install 'concur-agents[throttle]'") from error
    starts = max(1, int(turns_per_second))
    pacer: Pacer = Throttler(rate_limit=starts, period=starts / turns_per_second)
    return pacer
