"""Checks of a controller's settings, in words that say what to write instead."""

from __future__ import annotations

import math


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Refuses what is not a whole number of at least `least`.

    Raises:
        ValueError: Names the setting and says what to give.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number, {least} or more")


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Refuses what is not a finite number from `low` to `high`, both included.

    Raises:
        ValueError: Names the setting and says what to give.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and low <= number <= high):
        limits = f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise ValueError(f"{name}={value!r}: give a number, {limits}")
