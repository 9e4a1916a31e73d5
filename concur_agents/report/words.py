"""Figures as people read them."""

from __future__ import annotations

UNKNOWN = "–"


def short(value: float) -> str:
    """A count in three digits or fewer: `812`, `12K`, `1.9M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.1f}{unit}" if value < 9.95 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def count(number: int, what: str) -> str:
    """Such as `1 agent`, `2,107 turns`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def seconds(value: float) -> str:
    """A span in the two units that matter: `0.4 s`, `5.2 s`, `59 s`, `12 min 05 s`, `2 h 17 min`. [s]"""
    if not value:
        return "0 s"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 119.5:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours:,} h {minutes:02} min"


def milliseconds(value: float) -> str:
    """A time per token, given in seconds: `31 ms`, `8,217 ms`."""
    if value >= 9.9995:
        return f"{value:,.0f} s"
    return f"{1e3 * value:,.0f} ms" if value >= 0.00995 else f"{1e3 * value:.1f} ms"


def known(value: float | None, form: str) -> str:
    """A figure in a form such as `{:.2f}`, or a dash."""
    return UNKNOWN if value is None else form.format(value)


def time_unit(span_s: float) -> tuple[float, str]:
    """Seconds in the unit of an axis that is so long, and the unit's name."""
    if span_s < 240:
        return 1.0, "seconds"
    return (60.0, "minutes") if span_s < 4 * 3600 else (3600.0, "hours")
